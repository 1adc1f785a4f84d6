package exporter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestClassify(t *testing.T) {
	tests := []struct {
		err          error
		read, symbol reason
	}{
		{context.DeadlineExceeded, reasonTimeout, reasonOther},
		{os.ErrDeadlineExceeded, reasonTimeout, reasonOther},
		{&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, reasonTimeout, reasonOther},
		{context.Canceled, reasonCanceled, reasonOther},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, reasonRefused, reasonOther},
		{&net.OpError{Op: "dial", Net: "unix", Err: syscall.ENOENT}, reasonRefused, reasonOther},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, reasonOther, reasonOther},
		{replyError("NOAUTH Authentication required."), reasonAuth, reasonAuth},
		{replyError("WRONGPASS invalid username-password pair"), reasonAuth, reasonAuth},
		{replyError("NOPERM this user has no permissions"), reasonAuth, reasonAuth},
		{replyError("ERR invalid password"), reasonAuth, reasonAuth},
		{replyError("LOADING Redis is loading the dataset in memory"), reasonNotReady, reasonOther},
		{replyError("MASTERDOWN Link with MASTER is down"), reasonNotReady, reasonOther},
		{replyError("CLUSTERDOWN The cluster is down"), reasonNotReady, reasonOther},
		{replyError("BUSY Redis is busy running a script"), reasonNotReady, reasonOther},
		{replyError("READONLY You can't write against a read only replica."), reasonNotReady, reasonOther},
		{replyError("WRONGTYPE Operation against a key"), reasonOther, reasonWrongType},
		{replyError("ERR unknown command"), reasonOther, reasonOther},
		{errors.New("NOAUTH, says somebody else"), reasonOther, reasonOther},
	}
	for _, tt := range tests {
		err := fmt.Errorf("read the proposals: %w", tt.err)
		if got := classifyRead(err); got != tt.read {
			t.Errorf("classifyRead(%v) = %s, want %s", tt.err, got, tt.read)
		}
		if got := classifySymbol(err); got != tt.symbol {
			t.Errorf("classifySymbol(%v) = %s, want %s", tt.err, got, tt.symbol)
		}
	}
	seen := make(map[string]bool)
	for _, r := range readReasons {
		seen[r.explanation()] = true
	}
	if len(seen) < 5 {
		t.Errorf("%d explanations", len(seen))
	}
}

func TestLabelText(t *testing.T) {
	long := strings.Repeat("é", 40)
	tests := map[string]string{
		"": "", "redis_hash": "redis_hash", "desk 1/ü": "desk 1/ü", "a\nb\x00c\u202ed": "a?b?c?d", "\xff\xfe": "??",
		long: strings.Repeat("é", 32), strings.Repeat("x", 65): strings.Repeat("x", 64),
	}
	for in, want := range tests {
		if got := labelText(in); got != want {
			t.Errorf("labelText(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzLabelText(f *testing.F) {
	for _, s := range []string{"", "redis_hash", "new\nline", "\xff", strings.Repeat("é", 100), "\u202e", "�"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := labelText(s)
		if len(got) > maxLabelBytes || !utf8.ValidString(got) || labelText(got) != got {
			t.Errorf("labelText(%q) = %q", s, got)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Errorf("labelText(%q) = %q holds %q", s, got, r)
			}
		}
	})
}
