package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"mailsrv/pkg/mmp"
	"mailsrv/pkg/mmp/relay"
)

// StoreState is how the MMP sees a store on another host.
type StoreState struct {
	Host string `json:"host"`
	// Up: it gets sessions. Paused: an administrator wants that it gets none.
	Up     bool `json:"up"`
	Paused bool `json:"paused"`
	// Sessions stand now; of those that were told to end, the answer to pause
	// says how many.
	Sessions int `json:"sessions"`
}

// pauses are the stores that get no sessions. The file outlives the process.
type pauses struct {
	path     string
	sessions *mmp.Sessions
	relays   map[string][]*relay.Relay // by host

	mu     sync.Mutex
	paused map[string]bool
}

// pauses lets the administrator take stores out for maintenance.
func (d *daemon) pauses(mux *http.ServeMux, sessions *mmp.Sessions, services ...map[string]*relay.Relay) error {
	p := &pauses{path: filepath.Join(d.cfg.Data, "mmp.paused"), sessions: sessions, relays: map[string][]*relay.Relay{}, paused: map[string]bool{}}
	for _, stores := range services {
		for host, r := range stores {
			p.relays[host] = append(p.relays[host], r)
		}
	}
	if err := p.load(); err != nil {
		return err
	}
	mux.HandleFunc("GET /stores", command(func(*http.Request) (any, error) {
		list := []StoreState{}
		for _, host := range slices.Sorted(maps.Keys(p.relays)) {
			list = append(list, p.state(host))
		}
		return list, nil
	}))
	for verb, on := range map[string]bool{"pause": true, "resume": false} {
		mux.HandleFunc("POST /stores/{host}/"+verb, command(func(r *http.Request) (any, error) {
			state, err := p.set(strings.ToLower(r.PathValue("host")), on)
			if err == nil {
				d.log.Info("store changed by command", "role", "mmp", "to", state.Host, "command", verb, "sessions", state.Sessions)
			}
			return state, err
		}))
	}
	return nil
}

func (p *pauses) load() error {
	text, err := os.ReadFile(p.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var hosts []string
	if err == nil {
		err = json.Unmarshal(text, &hosts)
	}
	if err != nil {
		return fmt.Errorf("reading which stores are paused: %w", err)
	}
	for _, host := range hosts {
		p.apply(host, true)
	}
	return nil
}

func (p *pauses) apply(host string, on bool) {
	p.paused[host] = on
	for _, r := range p.relays[host] {
		r.Pause(on)
	}
}

func (p *pauses) state(host string) StoreState {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := StoreState{Host: host, Up: true, Paused: p.paused[host]}
	for _, r := range p.relays[host] {
		s.Up = s.Up && r.Up()
	}
	for _, e := range p.sessions.List() {
		if slices.Contains(strings.Split(e.Store, ","), host) {
			s.Sessions++
		}
	}
	return s
}

// set pauses a store or ends that, durably.
func (p *pauses) set(host string, on bool) (s StoreState, err error) {
	if p.relays[host] == nil {
		return s, fmt.Errorf("no store %q on another host is configured (mmp.stores)", host)
	}
	p.mu.Lock()
	p.apply(host, on)
	var hosts []string
	for host, on := range p.paused {
		if on {
			hosts = append(hosts, host)
		}
	}
	slices.Sort(hosts)
	text, err := json.Marshal(hosts)
	if err == nil {
		if err = os.WriteFile(p.path+".new", text, 0o600); err == nil {
			err = os.Rename(p.path+".new", p.path)
		}
	}
	p.mu.Unlock()
	if err != nil {
		return s, fmt.Errorf("noting that %s is paused, until the next start it is so: %w", host, err)
	}
	s = p.state(host)
	if on {
		s.Sessions = p.sessions.KickFrom(host)
	}
	return s, nil
}
