package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"mailsrv/pkg/config"
	"mailsrv/pkg/listen"
)

// ControlSocket is the path of the socket over which the commands of the same
// binary speak with a running role: HTTP with JSON. Only root and the server's
// own user are heard.
func ControlSocket(c config.Config, role config.Role) string {
	return filepath.Join(c.Data, string(role)+".sock")
}

// ControlError is the answer to a command that failed; it is for the admin.
type ControlError struct {
	Error string `json:"error"`
}

// control opens the control socket of a role as part of its stage.
func (d *daemon) control(ctx context.Context, s *stage, commands *http.ServeMux) error {
	server := &http.Server{Handler: commands, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	return d.open(ctx, s, door{name: "control-" + string(s.role), listen: config.Listeners{"unix:" + ControlSocket(d.cfg, s.role)}, options: listen.Options{Limits: listen.Limits{Total: 50}},
		serve: func(ctx context.Context, conn net.Conn) {
			if uid, ok := listen.PeerUID(conn); !ok || uid != 0 && uid != uint32(os.Getuid()) {
				d.log.Warn("command refused", "role", string(s.role), "uid", uid, "err", "neither root nor the server's own user")
				conn.Close()
				return
			}
			_ = server.Serve(&oneConn{ctx: ctx, conn: conn})
		}})
}

// command answers with the JSON of what fn returns, or with its error.
func command(fn func(r *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer, err := fn(r)
		w.Header().Set("Content-Type", "application/json")
		switch {
		case errors.Is(err, errBadCommand):
			w.WriteHeader(http.StatusBadRequest)
		case err != nil:
			w.WriteHeader(http.StatusConflict)
		}
		if err != nil {
			answer = ControlError{err.Error()}
		}
		_ = json.NewEncoder(w).Encode(answer) // the client is gone, which is its own affair
	}
}

// errBadCommand: the command itself is malformed.
var errBadCommand = errors.New("bad command")

// pathID reads the id in a request's path.
func pathID(r *http.Request) (int64, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return 0, errors.Join(errBadCommand, err)
	}
	return id, nil
}
