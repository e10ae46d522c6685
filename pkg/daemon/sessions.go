package daemon

import (
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/mmp"
)

// Session is a logged-in session as the commands see it.
type Session struct {
	Trace     string    `json:"trace"`
	Account   string    `json:"account"`
	Service   string    `json:"service"`
	Client    string    `json:"client"`
	TLS       bool      `json:"tls"`
	Mechanism string    `json:"mechanism"`
	Store     string    `json:"store"`
	Since     time.Time `json:"since"`
}

// Kicked is how many sessions were told to end.
type Kicked struct {
	Sessions int `json:"sessions"`
}

// sessionCommands lets the admin see and end sessions.
func sessionCommands(mux *http.ServeMux, sessions *mmp.Sessions) {
	mux.HandleFunc("GET /sessions", command(func(*http.Request) (any, error) {
		list := []Session{}
		for _, s := range sessions.List() {
			list = append(list, Session{
				Trace: string(s.Trace), Account: s.Account, Service: string(s.Service), Client: s.Client.String(), TLS: s.TLS,
				Mechanism: s.Mechanism, Store: s.Store, Since: s.Since,
			})
		}
		return list, nil
	}))
	mux.HandleFunc("DELETE /sessions/{who}", command(func(r *http.Request) (any, error) {
		return Kicked{sessions.Kick(r.PathValue("who"))}, nil
	}))
}

// Ban is what a role knows of where failed logins came from.
type Ban struct {
	Network string `json:"network"`
	// Minute and Day count failures.
	Minute  int       `json:"minute"`
	Day     int       `json:"day"`
	Last    time.Time `json:"last,omitzero"`
	Until   time.Time `json:"until,omitzero"` // zero: not banned
	Welcome bool      `json:"welcome"`        // somebody logged in from there in the last day
	Exempt  bool      `json:"exempt"`         // loopback, or a proxy
}

// Lifted says whether there was anything to forget.
type Lifted struct {
	Known bool `json:"known"`
}

// banCommands lets the admin see and lift what the throttle of logins did.
func banCommands(mux *http.ServeMux, logins *auth.Logins) {
	public := func(s auth.Source) Ban {
		return Ban{Network: s.Network.String(), Minute: s.Minute, Day: s.Day, Last: s.Last, Until: s.Until, Welcome: s.Welcome, Exempt: logins.Exempt(s.Network.Addr())}
	}
	mux.HandleFunc("GET /bans", command(func(*http.Request) (any, error) {
		list := []Ban{}
		for _, s := range logins.Bans() {
			list = append(list, public(s))
		}
		return list, nil
	}))
	mux.HandleFunc("GET /bans/{address}", command(func(r *http.Request) (any, error) {
		a, err := pathAddress(r)
		return public(logins.Source(a)), err
	}))
	mux.HandleFunc("DELETE /bans/{address}", command(func(r *http.Request) (any, error) {
		a, err := pathAddress(r)
		if err != nil {
			return nil, err
		}
		return Lifted{logins.Lift(a)}, nil
	}))
}

func pathAddress(r *http.Request) (netip.Addr, error) {
	a, err := netip.ParseAddr(r.PathValue("address"))
	if err != nil {
		return a, fmt.Errorf("%w: %q is no address", errBadCommand, r.PathValue("address"))
	}
	return a, nil
}
