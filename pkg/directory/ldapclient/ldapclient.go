// Package ldapclient is a directory.Editor that runs elsewhere: another mailsrv,
// OpenLDAP, 389 Directory Server or Active Directory, asked over LDAP (RFC 4511).
//
// It stands on ldapwire and keeps two bounded pools of connections. Those of
// the first are bound as the service, once, and carry searches and edits.
// Those of the second carry nothing but the binds that check users'
// passwords, so no such bind can change under whose name a search runs. A
// connection does one operation at a time.
//
// Whatever keeps an answer from coming (no server, a blackhole, a wrong
// service password, a server that is shutting down) is directory.ErrUnavailable
// within the timeout. Dead connections are replaced, and reads tried once
// more. Referrals are not followed.
package ldapclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"mailsrv/pkg/directory"
)

var _ directory.Editor = (*Client)(nil)

const (
	defaultTimeout     = 5 * time.Second
	defaultConnections = 8
	defaultBinders     = 4
)

// Options say where the directory is and who asks.
type Options struct {
	// URLs are ldap://host[:389], ldaps://host[:636] or ldapi:///path/of/socket
	// (also ldapi://%2Fpath%2Fof%2Fsocket); the first that answers is used. At
	// least one.
	URLs []string
	// StartTLS upgrades ldap:// connections (RFC 4511 §4.14), or fails.
	StartTLS bool
	// Plaintext allows passwords over ldap:// without StartTLS to a host that
	// is not loopback. Without it Dial refuses such a URL.
	Plaintext bool
	// TLS is for StartTLS and ldaps: the CAs, a client certificate. The server
	// name is the URL's host unless it is set. Nil: the system's CAs.
	TLS *tls.Config
	// BindDN and Password are the service's; the root DN asks anonymously.
	BindDN   directory.DN
	Password string
	// External binds by SASL EXTERNAL instead: over ldapi as this process, over
	// TLS as the client certificate.
	External bool
	// Connections bounds those that search and edit, Binders those that check
	// passwords; 0 means 8 and 4.
	Connections, Binders int
	// Timeout bounds each operation, with the dialing that it may need; 0 means
	// 5 seconds. Of a search it bounds each thousand entries.
	Timeout time.Duration
	// Probe makes Dial fail if no server answers.
	Probe bool
	// ReadOnly refuses changes here, with UnwillingToPerform.
	ReadOnly bool
	// Log gets a line when the directory goes away and when it comes back.
	Log *slog.Logger
}

// Client is a directory that runs elsewhere. It may be used from many
// goroutines.
type Client struct {
	o       Options
	dialer  *dialer
	service *pool
	binders *pool
}

// Dial returns a client. It asks no server unless o.Probe is set, so roles may
// start in any order; but it refuses options that can never work. The caller
// closes the client.
func Dial(ctx context.Context, o Options) (*Client, error) {
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.Connections <= 0 {
		o.Connections = defaultConnections
	}
	if o.Binders <= 0 {
		o.Binders = defaultBinders
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if !o.External && !o.BindDN.IsRoot() && o.Password == "" {
		return nil, errors.New("directory: a bind DN without a password")
	}
	d, err := newDialer(o)
	if err != nil {
		return nil, err
	}
	c := &Client{o: o, dialer: d}
	c.service = newPool(o.Connections, func(ctx context.Context) (*conn, error) { return d.dial(ctx, d.bindService) })
	c.binders = newPool(o.Binders, func(ctx context.Context) (*conn, error) { return d.dial(ctx, nil) })
	if o.Probe {
		if err := c.probe(ctx); err != nil {
			_ = c.Close()
			return nil, fmt.Errorf("asking the directory: %w", err)
		}
	}
	return c, nil
}

// probe makes the first connection.
func (c *Client) probe(ctx context.Context) error {
	k, err := c.service.get(ctx, c.deadline(ctx), false)
	if err != nil {
		return err
	}
	c.service.put(k)
	return nil
}

// Close ends the idle connections, and those in use when they are given back.
// Later calls are ErrUnavailable.
func (c *Client) Close() error {
	c.service.close()
	c.binders.close()
	return nil
}
