package daemon

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mailsrv/pkg/config"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
	"mailsrv/pkg/mta/autoreply"
	"mailsrv/pkg/mta/moderate"
	"mailsrv/pkg/mta/program"
	"mailsrv/pkg/mta/queue"
	"mailsrv/pkg/mta/smtpclient"
	"mailsrv/pkg/store/lmtpclient"
)

// Mail is what the rules about recipients need of the directory.
type Mail interface {
	directory.Directory
	directory.Lister
}

// Rules says what becomes of recipients: those of the configuration over a
// directory. hasStore tells the mail hosts that are stores of ours.
func Rules(c config.Config, dir Mail, key []byte, hasStore func(host string) bool) (*mta.Resolver, error) {
	r := c.MTA.Routing
	rules := &mta.Resolver{Directory: dir, Lists: dir, Hosts: append(c.Store.Hosts[:len(c.Store.Hosts):len(c.Store.Hosts)], c.Hostname), HasStore: hasStore,
		QueueOverQuota: r.OverQuota == "queue", DisabledText: r.DisabledText}
	if len(key) > 0 {
		rules.SRS = mta.NewSRS(key)
	}
	for _, p := range r.Programs {
		rules.Programs = append(rules.Programs, p.Name)
	}
	if r.Postmaster != "" {
		var err error
		if rules.Postmaster, err = mail.ParseAddress(r.Postmaster); err != nil {
			return nil, fmt.Errorf("reading mta.routing.postmaster: %w", err)
		}
	}
	for _, t := range r.Transports {
		rule := mta.Transport{Name: t.Name, To: t.To, From: t.From}
		if t.Address != "" {
			var err error
			if rule.Address, err = mail.ParseAddress(t.Address); err != nil {
				return nil, fmt.Errorf("reading mta.routing.transports: %w", err)
			}
		}
		rules.Transports = append(rules.Transports, rule)
	}
	return rules, nil
}

// IsStore reports whether a mail host is one of the stores that the
// configuration knows.
func IsStore(c config.Config, host string) bool {
	if c.Runs(config.RoleStore) {
		for _, h := range append([]string{c.Hostname}, c.Store.Hosts...) {
			if strings.EqualFold(h, host) {
				return true
			}
		}
	}
	for _, s := range c.MTA.Stores {
		if strings.EqualFold(s.Host, host) {
			return true
		}
	}
	return false
}

// routingKey is the secret of rewritten senders and moderators' tokens. One
// that nobody configured is made once and kept in the data folder.
func (d *daemon) routingKey() ([]byte, error) {
	if path := d.cfg.MTA.Routing.SecretFile; path != "" {
		s, err := secret(path)
		return []byte(s), err
	}
	path := filepath.Join(d.cfg.Data, "routing.key")
	key, err := os.ReadFile(path)
	if err == nil && len(key) > 0 {
		return key, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("reading the key of rewritten senders: %w", err)
	}
	key = []byte(rand.Text())
	if err := os.WriteFile(path, key, 0o600); err != nil {
		return nil, fmt.Errorf("making the key of rewritten senders: %w", err)
	}
	return key, nil
}

// transports are the clients of the configured transports.
func (d *daemon) transports() (mta.Transports, error) {
	ways := map[string]mail.Deliverer{}
	log := d.messageLog(config.RoleMTA)
	for _, t := range d.cfg.MTA.Routing.Transports {
		if t.Address != "" {
			continue
		}
		if t.MX {
			client, err := d.exchangers()
			if err != nil {
				return nil, err
			}
			ways[t.Name] = d.metrics.deliverer("remote", client)
			continue
		}
		host := hostOf(cmp.Or(t.SMTP, t.LMTP))
		config, err := clientTLS(t.CA, host)
		if err != nil {
			return nil, err
		}
		if t.LMTP != "" {
			o := lmtpclient.Options{Addr: t.LMTP, Hostname: d.cfg.Hostname, Log: log}
			if t.TLS == "starttls" {
				o.TLS = config
			}
			c := lmtpclient.New(o)
			d.closers = append(d.closers, c.Close)
			ways[t.Name] = d.metrics.deliverer("transport", final{c})
			continue
		}
		o := smtpclient.Options{Hostname: d.cfg.Hostname, Port: d.cfg.MTA.Port, Resolver: Resolver(d.cfg), Log: log, TLS: config,
			SmartHost: &smtpclient.SmartHost{Addr: t.SMTP, TLS: security(t.TLS), Username: t.Username}}
		if t.Username != "" {
			if o.SmartHost.Password, err = secret(t.PasswordFile); err != nil {
				return nil, err
			}
		}
		c := smtpclient.New(o)
		d.closers = append(d.closers, c.Close)
		ways[t.Name] = d.metrics.deliverer("transport", c)
	}
	return func(name string) mail.Deliverer { return ways[name] }, nil
}

// final is a next hop that puts messages into mailboxes: it has reported
// success when it took one.
type final struct{ mail.Deliverer }

// Deliver implements mail.Deliverer.
func (f final) Deliver(ctx context.Context, env mail.Envelope, body mail.Body) []error {
	errs := f.Deliverer.Deliver(ctx, env, body)
	for i, r := range env.To {
		if errs[i] == nil && strings.Contains(r.Notify, "SUCCESS") {
			errs[i] = &mta.Handed{Final: true}
		}
	}
	return errs
}

// hostOf is the host of host:port.
func hostOf(address string) string {
	if i := strings.LastIndexByte(address, ':'); i >= 0 {
		return strings.Trim(address[:i], "[]")
	}
	return address
}

// actions are what takes a message in the place of a mailbox. They need the
// queue, whose attempts ask for them.
func (d *daemon) actions(ctx context.Context, q *queue.Queue, dir Mail, key []byte, signer mta.Signer) (map[string]mail.Deliverer, error) {
	log := d.messageLog(config.RoleMTA)
	replies, err := autoreply.Open(ctx, autoreply.Options{Path: filepath.Join(d.cfg.Data, "queue", "autoreply.db"), Directory: dir, Queue: q, Signer: signer,
		Hostname: d.cfg.Hostname, OnFatal: d.onFatal, Log: log})
	if err != nil {
		return nil, err
	}
	d.closers = append(d.closers, replies.Close)
	moderation := moderate.New(moderate.Options{Queue: q, Directory: dir, Lists: dir, Key: key, Hostname: d.cfg.Hostname, Log: log})
	all := map[string]mail.Deliverer{mta.ActionReply: replies, mta.ActionNotify: moderation, mta.ActionDecide: moderation}
	for _, p := range d.cfg.MTA.Routing.Programs {
		all[mta.ActionProgram+p.Name] = program.Program{Command: p.Command, Timeout: time.Duration(p.Timeout)}
	}
	return all, nil
}
