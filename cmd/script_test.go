package cmd

import (
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs testdata/script/*.txtar, each twice: with all roles in one
// process, and with a process for each role. testdata/script/README.md says how
// they are written.
func TestScripts(t *testing.T) {
	for name, split := range map[string]bool{"joined": false, "split": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testscript.Run(t, testscript.Params{
				Dir:                "../testdata/script",
				RequireUniqueNames: true,
				Setup:              func(env *testscript.Env) error { return setUpScript(env, split) },
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"up": scriptUp, "down": scriptDown, "crash": scriptCrash, "users": scriptUsers,
					"chat": scriptChat, "metric": scriptMetric, "exits": scriptExits, "schema": scriptSchema,
					"accounts": scriptAccounts, "traced": scriptTraced, "silent": scriptSilent,
				},
				Condition: func(cond string) (bool, error) {
					switch cond {
					case "joined", "split":
						return (cond == "split") == split, nil
					case "root":
						return os.Getuid() == 0, nil
					}
					return false, fmt.Errorf("unknown condition %q", cond)
				},
			})
		})
	}
}

// topologyKey finds a script's topology.
type topologyKey struct{}

func topologyOf(ts *testscript.TestScript) *topology { return ts.Value(topologyKey{}).(*topology) }

// setUpScript writes the configurations; nothing is started yet.
func setUpScript(env *testscript.Env, split bool) error {
	tb, ok := env.T().(testing.TB)
	if !ok {
		return errors.New("testscript runs without a testing.TB")
	}
	t := newTopology(newInstall(tb), split)
	otherwise := settings{}
	text, err := os.ReadFile(filepath.Join(env.WorkDir, "settings.yaml"))
	if err == nil {
		err = yaml.Unmarshal(text, &otherwise)
	} else if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("reading settings.yaml: %w", err)
	}
	t.write(otherwise)
	env.Values[topologyKey{}] = t
	env.Setenv("CONFIG", t.configs[t.process("directory")])
	env.Setenv("OTHER", t.configs["other"])
	for _, role := range roles() {
		name := strings.ToUpper(role)
		env.Setenv(name+"_LOG", t.logFile(t.process(role)))
		env.Setenv(name+"_DATA", filepath.Join(t.dir, t.process(role)))
		env.Setenv(name+"_CONFIG", t.configs[t.process(role)])
	}
	for door, address := range t.doors {
		env.Setenv(strings.ToUpper(strings.ReplaceAll(door, "-", "_")), address)
	}
	env.Defer(func() {
		for name, p := range t.running {
			if err := p.end(syscall.SIGTERM); err != nil {
				tb.Errorf("stopping %s: %v", name, err)
			}
		}
	})
	tb.Cleanup(func() { // the log files are gone with the folder otherwise
		if tb.Failed() {
			for _, name := range slices.Sorted(maps.Keys(t.configs)) {
				log, _ := os.ReadFile(t.logFile(name))
				tb.Logf("log of %s:\n%s", name, log)
			}
		}
	})
	return nil
}

// scriptUp is "up [ROLE...]": it starts the processes that run these roles, or
// all but other, at the same time, and waits until they are ready.
func scriptUp(ts *testscript.TestScript, neg bool, args []string) {
	t := topologyOf(ts)
	type started struct {
		name string
		p    *process
		err  error
	}
	names := slices.DeleteFunc(t.processes(args), func(name string) bool { return t.running[name] != nil })
	results := make(chan started)
	for _, name := range names {
		if neg || t.configs[name] == "" {
			ts.Fatalf("usage: up [directory|store|mta|mmp|other...]")
		}
		go func() {
			log, err := os.OpenFile(t.logFile(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
			if err != nil {
				results <- started{name: name, err: err}
				return
			}
			defer log.Close()
			p, err := launch(t.configs[name], log)
			results <- started{name, p, err}
		}()
	}
	var errs []error
	for range names {
		s := <-results
		if s.err == nil {
			t.running[s.name] = s.p
		}
		errs = append(errs, s.err)
	}
	ts.Check(errors.Join(errs...))
}

// scriptDown is "down [ROLE...]": SIGTERM, after which each process exits with 0.
func scriptDown(ts *testscript.TestScript, _ bool, args []string) {
	endProcesses(ts, args, syscall.SIGTERM)
}

// scriptCrash is "crash [ROLE...]": SIGKILL.
func scriptCrash(ts *testscript.TestScript, _ bool, args []string) {
	endProcesses(ts, args, syscall.SIGKILL)
}

// endProcesses ends them in the reverse order of their start.
func endProcesses(ts *testscript.TestScript, chosen []string, s syscall.Signal) {
	t := topologyOf(ts)
	names := t.processes(chosen)
	slices.Reverse(names)
	for _, name := range names {
		p := t.running[name]
		if p == nil {
			ts.Fatalf("%s does not run", name)
		}
		delete(t.running, name)
		if err := p.end(s); err != nil {
			ts.Fatalf("stopping %s: %v", name, err)
		}
	}
}

// scriptUsers is "users NAME[@DOMAIN]...": users of example.test, or of a domain
// of the other installation, each with the password NAME-secret; the domain is
// made if it is missing.
func scriptUsers(ts *testscript.TestScript, _ bool, args []string) {
	t := topologyOf(ts)
	made := map[string]bool{}
	for _, login := range args {
		name, domain, _ := strings.Cut(login, "@")
		config := t.configs[t.process("directory")]
		if domain == "" {
			domain = "example.test"
		} else {
			config = t.configs["other"]
		}
		if !made[domain] {
			made[domain] = true
			if out, err := t.command("domain", "add", domain, "--config", config).CombinedOutput(); err != nil && !strings.Contains(string(out), "exists") {
				ts.Fatalf("adding %s: %v\n%s", domain, err, out)
			}
		}
		c := t.command("user", "add", name+"@"+domain, "--password-stdin", "--config", config)
		c.Stdin = strings.NewReader(name + "-secret\n")
		if out, err := c.CombinedOutput(); err != nil {
			ts.Fatalf("adding %s: %v\n%s", login, err, out)
		}
	}
}

// scriptExits is "exits CODE COMMAND...": the command ends with this exit code.
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		e, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		code = e.ExitCode()
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("%s: exit code %d, want %s", strings.Join(args[1:], " "), code, args[0])
	}
}

// scriptSchema is "schema FILE VERSION": it makes a database one of another version.
func scriptSchema(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: schema FILE VERSION")
	}
	db, err := sql.Open("sqlite", ts.MkAbs(args[0]))
	ts.Check(err)
	_, err = db.Exec("PRAGMA user_version=" + args[1])
	ts.Check(errors.Join(err, db.Close()))
}

// scriptAccounts holds how many accounts a store has.
func scriptAccounts(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: accounts STORE.DB COUNT")
	}
	db, err := sql.Open("sqlite", "file:"+ts.MkAbs(args[0])+"?mode=ro")
	ts.Check(err)
	defer db.Close()
	var n int
	ts.Check(db.QueryRow("SELECT count(*) FROM account").Scan(&n))
	if fmt.Sprint(n) != args[1] {
		ts.Fatalf("%d accounts, want %s", n, args[1])
	}
}
