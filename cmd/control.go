package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"
	"time"

	"mailsrv/pkg/config"
	"mailsrv/pkg/daemon"
)

// control speaks with one role of a running server over its control socket.
type control struct {
	role   config.Role
	path   string
	client *http.Client
}

func newControl(c config.Config, role config.Role) *control {
	path := daemon.ControlSocket(c, role)
	return &control{role: role, path: path, client: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", path)
		},
	}}}
}

// do sends a command and returns the answer, which the caller closes.
func (c *control) do(ctx context.Context, method, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://control"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.client.Do(req)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("no running %s role answers at %s; start it with: mailsrv serve", c.role, c.path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("no right to use %s; run the command as root or as the server's own user", c.path)
	case err != nil:
		return nil, fmt.Errorf("asking the %s role: %w", c.role, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var fault daemon.ControlError
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&fault); err != nil || fault.Error == "" {
		return nil, fmt.Errorf("asking the %s role: it answers %s (is it of another version than this program?)", c.role, resp.Status)
	}
	return nil, errors.New(fault.Error)
}

// get reads the answer to a command into answer.
func (c *control) get(ctx context.Context, method, path string, answer any) error {
	body, err := c.do(ctx, method, path)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(answer); err != nil {
		return fmt.Errorf("reading the answer of the %s role: %w", c.role, err)
	}
	return nil
}
