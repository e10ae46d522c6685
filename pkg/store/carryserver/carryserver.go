// Package carryserver is the door of a store.Carrier: HTTP with JSON and cargo,
// by which accounts are moved between stores.
//
// Who may speak with it is not its matter: the store role serves it on its
// control socket, and to its own proxies on a connection that logged in at the
// IMAP door as nobody's but the store's (RFC 4616 with the authorization
// identity Authzid).
//
//	GET    /carry/ACCOUNT?closely=1             a store.Census
//	POST   /carry/ACCOUNT/seal?until=SECONDS    and end the account's sessions
//	POST   /carry/ACCOUNT/open
//	POST   /carry/ACCOUNT/receive
//	GET    /carry/ACCOUNT/cargo?mailbox=M&above=UID
//	POST   /carry/ACCOUNT/cargo
//	DELETE /carry/ACCOUNT
//
// A failure is a status that says which of the contract's errors it is, and
// JSON with its text; one that comes while cargo is sent cuts it.
package carryserver

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"mailsrv/pkg/store"
)

// Options are a handler's parts.
type Options struct {
	Carrier store.Carrier
	// EndSessions is called with the name of an account that was just sealed.
	EndSessions func(account string)
	Log         *slog.Logger
}

// Failure is the body of an answer that is no success.
type Failure struct {
	Error string `json:"error"`
}

type server struct{ o Options }

// Register adds the door's commands to a mux.
func Register(mux *http.ServeMux, o Options) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &server{o}
	mux.HandleFunc("GET /carry/{account}", s.census)
	mux.HandleFunc("POST /carry/{account}/seal", s.seal)
	mux.HandleFunc("POST /carry/{account}/open", s.change("opened", o.Carrier.Open))
	mux.HandleFunc("POST /carry/{account}/receive", s.change("to arrive", o.Carrier.Receive))
	mux.HandleFunc("DELETE /carry/{account}", s.change("dropped", o.Carrier.Drop))
	mux.HandleFunc("GET /carry/{account}/cargo", s.exports)
	mux.HandleFunc("POST /carry/{account}/cargo", s.imports)
}

// code is the status of an error. ErrHeld is ErrUnavailable too, and comes first.
func code(err error) int {
	if errors.Is(err, store.ErrHeld) {
		return http.StatusLocked
	}
	for code, known := range store.CarrierCodes() {
		if errors.Is(err, known) {
			return code
		}
	}
	return http.StatusInternalServerError
}

func (s *server) answer(w http.ResponseWriter, r *http.Request, answer any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		s.o.Log.Warn("move of an account failed", "account", r.PathValue("account"), "command", r.Method+" "+r.URL.Path, "err", err)
		w.WriteHeader(code(err))
		answer = Failure{err.Error()}
	}
	_ = json.NewEncoder(w).Encode(answer) // the client is gone, which is its own affair
}

func (s *server) census(w http.ResponseWriter, r *http.Request) {
	c, err := s.o.Carrier.Census(r.Context(), r.PathValue("account"), r.URL.Query().Get("closely") != "")
	if errors.Is(err, store.ErrNoAccount) { // is asked first of every move
		w.WriteHeader(http.StatusNotFound)
		_ = json.NewEncoder(w).Encode(Failure{err.Error()})
		return
	}
	s.answer(w, r, c, err)
}

func (s *server) seal(w http.ResponseWriter, r *http.Request) {
	s.change("sealed", func(ctx context.Context, account string) error {
		var until time.Time
		if n, err := strconv.ParseInt(r.URL.Query().Get("until"), 10, 64); err == nil && n > 0 {
			until = time.Unix(n, 0)
		}
		err := s.o.Carrier.Seal(ctx, account, until)
		if err == nil && s.o.EndSessions != nil {
			s.o.EndSessions(account)
		}
		return err
	})(w, r)
}

// change is a command that answers with nothing.
func (s *server) change(what string, do func(context.Context, string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		account := r.PathValue("account")
		err := do(r.Context(), account)
		if err == nil {
			s.o.Log.Info("account "+what, "account", account)
		}
		s.answer(w, r, struct{}{}, err)
	}
}

// counted notes whether anything was written.
type counted struct {
	http.ResponseWriter
	n int64
}

// Write implements io.Writer.
func (c *counted) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n += int64(n)
	return n, err
}

func (s *server) exports(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	above, err := strconv.ParseUint(q.Get("above"), 10, 32)
	if err != nil && q.Get("above") != "" {
		s.answer(w, r, nil, store.ErrCargo)
		return
	}
	unhurried(w)
	out := &counted{ResponseWriter: w}
	err = s.o.Carrier.Export(r.Context(), r.PathValue("account"), q.Get("mailbox"), store.UID(above), out)
	if err != nil && out.n == 0 {
		s.answer(w, r, nil, err)
		return
	}
	if err != nil {
		s.o.Log.Warn("move of an account failed", "account", r.PathValue("account"), "err", err)
		panic(http.ErrAbortHandler) // the cargo's end is missing, and the connection ends
	}
}

func (s *server) imports(w http.ResponseWriter, r *http.Request) {
	unhurried(w)
	err := s.o.Carrier.Import(r.Context(), r.PathValue("account"), r.Body)
	s.answer(w, r, struct{}{}, err)
}

// unhurried lifts the bounds of time of ordinary commands: a mailbox is large. A
// client that is gone is noticed by TCP's keep-alive.
func unhurried(w http.ResponseWriter) {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Time{}) // not to be had: then there was none
	_ = c.SetWriteDeadline(time.Time{})
}
