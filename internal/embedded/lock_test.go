package embedded

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestDataDirectoryBelongsToOneServer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	first := start(t, Options{Dir: dir})
	do(t, client(t, first.Addr(), 0), "SET", "a", "1")
	_, err := Start(Options{Addr: "127.0.0.1:0", Dir: dir})
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "--data") {
		t.Fatalf("a second server on the same directory: %v", err)
	}
	// The refused one touched nothing, and a start that fails later lets go of the directory again.
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(Options{Addr: "192.0.2.1:0", AllowRemote: true, Dir: dir}); err == nil {
		t.Fatal("it listens on an address of nobody")
	}
	again := start(t, Options{Dir: dir})
	if got := do(t, client(t, again.Addr(), 0), "GET", "a"); got != "1" {
		t.Errorf("after a restart a = %v", got)
	}
}

// lockedDir makes the test binary a process that takes a data directory, says so and waits to be killed.
const lockedDir = "EMBEDDED_TEST_LOCKED_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(lockedDir); dir != "" {
		if _, err := Start(Options{Addr: "127.0.0.1:0", Dir: dir}); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("locked")
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestDataDirectoryIsFreeAfterACrash(t *testing.T) {
	dir := t.TempDir()
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), lockedDir+"="+dir)
	stdin, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	said, err := bufio.NewReader(stdout).ReadString('\n')
	if said != "locked\n" {
		_ = other.Process.Kill()
		t.Fatalf("the other process said %q, %v", said, err)
	}
	if s, err := Start(Options{Addr: "127.0.0.1:0", Dir: dir}); err == nil {
		_ = s.Close()
		t.Error("the directory of another process was taken")
	}
	_ = other.Process.Kill()
	_ = other.Wait()
	start(t, Options{Dir: dir})
}
