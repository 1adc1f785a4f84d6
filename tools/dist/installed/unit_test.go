package installed

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// unit is what an installed unit file says, key by key in its order.
type unit struct {
	name string
	says map[string][]string
}

func readUnit(t *testing.T, root, name string) unit {
	t.Helper()
	f, err := os.Open(filepath.Join(root, "usr/lib/systemd/system", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	u := unit{name, map[string][]string{}}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if key, value, ok := strings.Cut(line, "="); ok && line[0] != '#' {
			u.says[key] = append(u.says[key], value)
		}
	}
	return u
}

func (u unit) one(t *testing.T, key string) string {
	t.Helper()
	if len(u.says[key]) != 1 {
		t.Fatalf("%s says %s= %d times", u.name, key, len(u.says[key]))
	}
	return u.says[key][0]
}

// service is a unit that runs.
type service struct {
	unit
	cmd    *exec.Cmd
	log    *output
	socket *net.UnixConn
	done   chan error

	mu   sync.Mutex
	told map[string]int // messages of sd_notify
}

// output gathers what a process writes.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// start does what systemd does with the unit: folders, credentials, environment, user, command line.
func (r root) start(t *testing.T, name string) *service {
	t.Helper()
	u := readUnit(t, string(r), name)
	user := u.one(t, "User")
	env := []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "NOTIFY_SOCKET=/run/" + name + ".notify", "WATCHDOG_USEC=20000000"}
	env = append(env, u.says["Environment"]...)
	for _, dir := range u.says["StateDirectory"] {
		r.run(t, "install", "-d", "-m", u.one(t, "StateDirectoryMode"), "-o", user, "-g", u.one(t, "Group"), "/var/lib/"+dir)
	}
	if dir := r.credentials(t, u, user); dir != "" {
		env = append(env, "CREDENTIALS_DIRECTORY="+dir)
	}
	s := &service{unit: u, log: &output{}, done: make(chan error, 1), told: map[string]int{}}
	address := filepath.Join(string(r), "run", name+".notify")
	_ = os.Remove(address)
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(address, 0o777); err != nil {
		t.Fatal(err)
	}
	s.socket = socket
	go s.listen()
	words := strings.Fields(u.one(t, "ExecStart"))
	args := append([]string{
		string(r), "setpriv", "--reuid", user, "--regid", u.one(t, "Group"), "--clear-groups", "--no-new-privs", "--inh-caps=-all",
		"--bounding-set=-all",
	}, words...)
	s.cmd = exec.Command("chroot", args...)
	s.cmd.Env, s.cmd.Stdout, s.cmd.Stderr = env, s.log, s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.done <- s.cmd.Wait() }()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		_ = socket.Close()
		if t.Failed() {
			t.Logf("%s:\n%s", name, s.log)
		}
	})
	return s
}

// credentials fills a folder with what LoadCredential= and, where such a file is not there, SetCredential= say.
func (r root) credentials(t *testing.T, u unit, user string) string {
	t.Helper()
	if len(u.says["LoadCredential"]) == 0 {
		return ""
	}
	dir := "/run/credentials/" + u.name
	set := map[string]string{}
	for _, line := range u.says["SetCredential"] {
		name, text, _ := strings.Cut(line, ":")
		set[name] = strings.ReplaceAll(text, `\n`, "\n")
	}
	if err := os.MkdirAll(filepath.Join(string(r), dir), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, line := range u.says["LoadCredential"] {
		name, source, _ := strings.Cut(line, ":")
		text, err := os.ReadFile(filepath.Join(string(r), source))
		if errors.Is(err, os.ErrNotExist) {
			fallback, ok := set[name]
			if !ok {
				t.Fatalf("%s: nothing stands in for %s where %s is not there", u.name, name, source)
			}
			text, err = []byte(fallback), nil
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(string(r), dir, name), text, 0o400)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	r.run(t, "chown", "-R", user, dir)
	return dir
}

func (s *service) listen() {
	buf := make([]byte, 4096)
	for {
		n, err := s.socket.Read(buf)
		if err != nil {
			return
		}
		s.mu.Lock()
		for _, line := range strings.Split(string(buf[:n]), "\n") {
			s.told[line]++
		}
		s.mu.Unlock()
	}
}

func (s *service) heard(message string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told[message]
}

// stop is what systemd does first, for as long as the unit allows.
func (s *service) stop(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("%s had ended before it was stopped: %v", s.name, err)
		return
	}
	select {
	case err := <-s.done:
		if err != nil {
			t.Errorf("%s ended with %v", s.name, err)
		}
	case <-time.After(30 * time.Second):
		t.Errorf("%s takes longer to stop than TimeoutStopSec", s.name)
	}
}

// eventually asks until there is no error any more.
func eventually(t *testing.T, within time.Duration, ask func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// market writes candles and a position into Redis twice a second until the test ends, as a bot would.
func market(t *testing.T, password string) {
	t.Helper()
	var conn net.Conn
	eventually(t, 20*time.Second, func() (err error) {
		conn, err = net.Dial("tcp", "127.0.0.1:6379")
		return err
	})
	stop, stopped := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(stop); <-stopped; _ = conn.Close() })
	go func() {
		defer close(stopped)
		answers := bufio.NewReader(conn)
		opened := time.Now().Unix() - 3600
		for n := 0; ; n++ {
			price := 95000 + float64(n%40)
			var closes strings.Builder
			for i := range 300 {
				fmt.Fprintf(&closes, " %.2f", price+float64((i*37)%91)-45)
			}
			commands := []string{
				"AUTH " + password,
				"DEL candles:BTCUSDT:1m",
				"RPUSH candles:BTCUSDT:1m" + closes.String(),
				fmt.Sprintf("HSET quantum:state:positions:BTCUSDT symbol BTCUSDT side LONG entry_price 94000 quantity 0.5 current_price %.2f opened_at_epoch %d updated_at_epoch %d",
					price, opened, time.Now().Unix()),
			}
			_, _ = fmt.Fprintf(conn, "%s\r\n", strings.Join(commands, "\r\n"))
			for range commands {
				line, err := answers.ReadString('\n')
				if err == nil && strings.HasPrefix(line, "-") {
					t.Errorf("redis: %s", line)
				}
			}
			select {
			case <-stop:
				return
			case <-time.After(500 * time.Millisecond):
			}
		}
	}()
}
