//go:build unix

package realserver

import (
	"bytes"
	"fmt"
	"net/http"
	"os/exec"
	"testing"
	"time"
)

// Alertmanager starts Debian's Alertmanager on a configuration file, waits until it is ready and returns its URL. It is
// stopped when the test ends.
func Alertmanager(t testing.TB, config string) string {
	t.Helper()
	binary, dir := Tool(t, "prometheus-alertmanager"), Dir(t)
	// Another process may take the free port first: then the next one is tried.
	var last string
	for range 5 {
		at := fmt.Sprintf("127.0.0.1:%d", FreePort(t))
		var log bytes.Buffer
		cmd := exec.Command(binary, "--config.file="+config, "--storage.path="+dir, "--web.listen-address="+at, "--cluster.listen-address=")
		cmd.Stdout, cmd.Stderr = &log, &log
		if err := cmd.Start(); err != nil {
			t.Fatalf("alertmanager: %v", err)
		}
		exited := make(chan struct{})
		go func() { _ = cmd.Wait(); close(exited) }()
		stop := func() {
			_ = cmd.Process.Kill()
			<-exited
		}
		if ready("http://"+at+"/-/ready", exited) {
			t.Cleanup(stop)
			return "http://" + at
		}
		stop()
		last = log.String()
	}
	t.Fatalf("alertmanager does not start:\n%s", last)
	return ""
}

// ready waits for a page to answer 200, as long as the process lives.
func ready(page string, exited <-chan struct{}) bool {
	for deadline := time.Now().Add(readyWithin); time.Now().Before(deadline); {
		if resp, err := http.Get(page); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return true
			}
		}
		select {
		case <-exited:
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
	return false
}
