// Package carryclient is a store.Carrier that runs elsewhere: it speaks with
// carryserver, over the control socket of a store on this machine, or through
// the IMAP door of one on another, where it logs in as one of the store's
// proxies.
package carryclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"mailsrv/pkg/store"
)

// Client is the Carrier. It may be used from many goroutines; each request has
// a connection of its own, and none is kept.
type Client struct {
	host string
	http *http.Client
}

var _ store.Carrier = (*Client)(nil)

// New returns a client of the store called host, which connects by dial.
func New(host string, dial func(ctx context.Context) (net.Conn, error)) *Client {
	return &Client{host: host, http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}}}
}

// do sends a request. The caller closes the answer's body, which is a success's.
func (c *Client) do(ctx context.Context, method, account, verb string, q url.Values, body io.Reader) (*http.Response, error) {
	path := "http://store/carry/" + url.PathEscape(account) + verb
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, path, body)
	if err != nil {
		return nil, fmt.Errorf("asking store %s: %w", c.host, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: asking store %s: %w", store.ErrUnavailable, c.host, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	var fault struct {
		Error string `json:"error"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&fault); err != nil || fault.Error == "" {
		fault.Error = "it answers " + resp.Status + " (is it of another version?)"
	}
	if known := store.CarrierCodes()[resp.StatusCode]; known != nil {
		return nil, &remoteError{text: fmt.Sprintf("store %s: %s", c.host, fault.Error), is: known}
	}
	return nil, fmt.Errorf("store %s: %s", c.host, fault.Error)
}

// remoteError is an error of the contract as the store told it.
type remoteError struct {
	text string
	is   error
}

// Error implements error.
func (e *remoteError) Error() string { return e.text }

// Unwrap returns the contract's error.
func (e *remoteError) Unwrap() error { return e.is }

// simple is do where nothing but success is awaited.
func (c *Client) simple(ctx context.Context, method, account, verb string, q url.Values, body io.Reader) error {
	resp, err := c.do(ctx, method, account, verb, q, body)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

// Census implements store.Carrier.
func (c *Client) Census(ctx context.Context, account string, closely bool) (census store.Census, err error) {
	q := url.Values{}
	if closely {
		q.Set("closely", "1")
	}
	resp, err := c.do(ctx, http.MethodGet, account, "", q, nil)
	if err != nil {
		return census, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&census); err != nil {
		return census, fmt.Errorf("%w: reading from store %s: %w", store.ErrUnavailable, c.host, err)
	}
	return census, nil
}

// Seal implements store.Carrier.
func (c *Client) Seal(ctx context.Context, account string, until time.Time) error {
	q := url.Values{}
	if !until.IsZero() {
		q.Set("until", strconv.FormatInt(until.Unix(), 10))
	}
	return c.simple(ctx, http.MethodPost, account, "/seal", q, nil)
}

// Open implements store.Carrier.
func (c *Client) Open(ctx context.Context, account string) error {
	return c.simple(ctx, http.MethodPost, account, "/open", nil, nil)
}

// Receive implements store.Carrier.
func (c *Client) Receive(ctx context.Context, account string) error {
	return c.simple(ctx, http.MethodPost, account, "/receive", nil, nil)
}

// Drop implements store.Carrier.
func (c *Client) Drop(ctx context.Context, account string) error {
	return c.simple(ctx, http.MethodDelete, account, "", nil, nil)
}

// Export implements store.Carrier.
func (c *Client) Export(ctx context.Context, account, mailbox string, above store.UID, to io.Writer) error {
	q := url.Values{"above": {strconv.FormatUint(uint64(above), 10)}}
	if mailbox != "" {
		q.Set("mailbox", mailbox)
	}
	resp, err := c.do(ctx, http.MethodGet, account, "/cargo", q, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(to, resp.Body); err != nil {
		return fmt.Errorf("%w: reading from store %s: %w", store.ErrUnavailable, c.host, err)
	}
	return nil
}

// Import implements store.Carrier.
func (c *Client) Import(ctx context.Context, account string, from io.Reader) error {
	if b, ok := from.(*bytes.Reader); ok { // not to be sent again by net/http
		from = io.MultiReader(b)
	}
	return c.simple(ctx, http.MethodPost, account, "/cargo", nil, from)
}
