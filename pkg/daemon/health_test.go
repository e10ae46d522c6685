package daemon_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mailsrv/pkg/config"
	"mailsrv/pkg/daemon"
)

// running is a daemon in this process.
type running struct {
	addresses map[string]string
	signals   chan os.Signal
	load      func() (config.Config, error)
	level     *slog.LevelVar
	log       *lockedBuffer
	stop      func()
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// settings are for some roles, on free ports and without TLS.
func settings(t *testing.T, roles ...config.Role) config.Config {
	t.Helper()
	c := config.Default()
	any := config.Listeners{"127.0.0.1:0"}
	c.Hostname, c.Roles, c.Data = "localhost", roles, t.TempDir()
	c.Admin.Listen = any
	c.Directory.Listen.LDAPI = filepath.Join(c.Data, "i")
	c.Store.IMAP.Listen = any
	c.MMP.IMAP, c.MMP.POP3 = config.Door{Listen: any}, config.Door{Listen: any}
	c.MTA.SMTP.Listen, c.MTA.Submission.Listen, c.MTA.Submissions.Listen = any, any, nil
	return c
}

func start(t *testing.T, c config.Config) *running {
	t.Helper()
	r := &running{signals: make(chan os.Signal), level: new(slog.LevelVar), log: &lockedBuffer{}}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- daemon.Run(ctx, daemon.Options{Config: c, Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: r.level})),
			Reload: daemon.Reload{Signals: r.signals, Load: func() (config.Config, error) { return r.load() }, Level: r.level},
			Ready:  func(a map[string]string) { r.addresses = a; close(ready) }})
	}()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the daemon ended with %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// get asks the admin listener.
func (r *running) get(t *testing.T, path string) (int, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	resp, err := client.Get("http://" + r.addresses["admin"] + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestReadyWhenAllAnswer(t *testing.T) {
	r := start(t, settings(t, config.AllRoles()...))
	for _, path := range []string{"/readyz", "/healthz"} {
		code, text := r.get(t, path)
		for _, line := range []string{"directory directory: ok", "store directory: ok", "store database: ok", "mta directory: ok", "mta queue: ok", "mmp directory: ok"} {
			if code != http.StatusOK || !strings.Contains(text, line+"\n") {
				t.Errorf("%s: %d, no line %q in\n%s", path, code, line, text)
			}
		}
	}
}

func TestProfilesOnlyWhenAskedFor(t *testing.T) {
	for on, want := range map[bool]int{false: http.StatusNotFound, true: http.StatusOK} {
		c := settings(t, config.RoleDirectory)
		c.Admin.Pprof = on
		r := start(t, c)
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/allocs?debug=1", "/debug/pprof/trace?seconds=0.01"} {
			if code, _ := r.get(t, path); code != want {
				t.Errorf("pprof %v: %s: %d, want %d", on, path, code, want)
			}
		}
	}
}

func TestNotReadyWithoutTheDirectory(t *testing.T) {
	d := start(t, settings(t, config.RoleDirectory))
	c := settings(t, config.RoleMTA)
	c.Directory.URLs = []string{"ldapi://" + d.addresses["ldapi"]}
	r := start(t, c)
	if code, text := r.get(t, "/readyz"); code != http.StatusOK {
		t.Fatalf("%d\n%s", code, text)
	}
	d.stop()
	if code, text := r.get(t, "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(text, "mta queue: ok\n") || strings.Contains(text, "mta directory: ok") {
		t.Errorf("/readyz: %d\n%s", code, text)
	}
	if code, text := r.get(t, "/healthz"); code != http.StatusOK {
		t.Errorf("/healthz, which a restart of ours would not mend: %d\n%s", code, text)
	}
}

func TestReload(t *testing.T) {
	c := settings(t, config.RoleDirectory)
	r := start(t, c)
	reload := func(want string, load func() (config.Config, error)) {
		t.Helper()
		r.load = load
		r.signals <- syscall.SIGHUP
		for deadline := time.Now().Add(10 * time.Second); !strings.Contains(r.log.String(), want); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the log has no %q:\n%s", want, r.log)
			}
		}
	}
	reload(`changed="grace log.level" restart=grace`, func() (config.Config, error) {
		changed := c
		changed.Log.Level, changed.Grace = "debug", 1
		return changed, nil
	})
	if r.level.Level() != slog.LevelDebug {
		t.Errorf("the level is %v", r.level)
	}
	reload("reload failed", func() (config.Config, error) { return config.Config{}, os.ErrNotExist })
	if r.level.Level() != slog.LevelDebug {
		t.Errorf("a faulty file changed the level to %v", r.level)
	}
}

func TestWatchdogIsFed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "20000")
	start(t, settings(t, config.RoleDirectory))
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	var seen []string
	for len(seen) < 2 {
		b := make([]byte, 100)
		n, err := conn.Read(b)
		if err != nil {
			t.Fatalf("after %q: %v", seen, err)
		}
		seen = append(seen, string(b[:n]))
	}
	if seen[0] != "READY=1" || seen[1] != "WATCHDOG=1" {
		t.Errorf("told %q", seen)
	}
}
