package cmd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-smtp"
	"github.com/go-ldap/ldap/v3"

	"mailsrv/pkg/config"
	"mailsrv/pkg/directory"
)

// place is where a step happens: a role, the key that says where it listens or
// is to be found, and the address that was tried.
type place struct {
	role         config.Role
	key, address string
}

// diagnosis is what is wrong, most likely, and what to do about it.
type diagnosis struct{ cause, next string }

// diagnose explains why a step failed at p.
func (c *check) diagnose(ctx context.Context, p place, err error) diagnosis {
	return diagnose(p, err, c.down(ctx, p.role))
}

// diagnose is check.diagnose, once it is known which neighbours of the role
// cannot be reached.
func diagnose(p place, err error, down []place) diagnosis {
	for _, find := range []func(place, error, []place) diagnosis{diagnoseCheck, diagnoseTLS, diagnoseIMAP, diagnoseSMTP, diagnoseLDAP, diagnoseNet} {
		if d := find(p, err, down); d.cause != "" {
			return d
		}
	}
	return diagnosis{fmt.Sprintf("the %s role failed", p.role), "read its log around now; log.level: debug shows more"}
}

// down are the neighbours that the role needs, as the file names them, and that
// refuse a connection.
func (c *check) down(ctx context.Context, role config.Role) []place {
	var needs []place
	switch role {
	case config.RoleMMP, config.RoleStore:
		for _, s := range c.cfg.MMP.Stores {
			needs = append(needs, place{config.RoleStore, "mmp.stores", s.Address})
		}
	case config.RoleMTA:
		for _, s := range c.cfg.MTA.Stores {
			needs = append(needs, place{config.RoleStore, "mta.stores", s.Address})
		}
	}
	return slices.DeleteFunc(needs, func(p place) bool {
		conn, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "tcp", p.address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// unreachable blames the neighbour that refuses, or the likeliest.
func unreachable(p place, down []place) diagnosis {
	if len(down) > 0 {
		d := down[0]
		return diagnosis{fmt.Sprintf("the %s cannot reach the %s at %s (%s)", p.role, d.role, d.address, d.key),
			fmt.Sprintf("start the %s role there, or correct %s; the %s's log says more", d.role, d.key, p.role)}
	}
	if p.role == config.RoleMMP {
		return diagnosis{"the mmp cannot reach the directory or the user's store, or that store does not take this MMP",
			"look for the step's time in the mmp's log; compare the entry's mailHost with store.hosts and mmp.stores, and proxy_name, secret_file and the MMP's address with store.proxies"}
	}
	return diagnosis{fmt.Sprintf("the %s cannot reach the directory or the user's store", p.role),
		fmt.Sprintf("look for the step's time in the %s's log; compare the entry's mailHost with store.hosts, mmp.stores and mta.stores", p.role)}
}

// diagnoseCheck explains what the steps themselves found.
func diagnoseCheck(p place, err error, down []place) diagnosis {
	switch {
	case errors.Is(err, errLetIn):
		return diagnosis{fmt.Sprintf("the %s does not verify passwords", p.role), "take it off the network; see which program answers at " + p.address}
	case errors.Is(err, errNoMailHost):
		return diagnosis{"the user has no mailHost, so nobody knows which store holds the mail", "run: mailsrv domain set DOMAIN mailhost=HOST, or set mmp.default_host"}
	case errors.Is(err, errNoEntry):
		return diagnosis{"directory.suffix is not above the users, or directory.bind_dn may not read them", "compare directory.suffix with the entries' names; see: mailsrv user list"}
	case errors.Is(err, errTwoEntries):
		return diagnosis{"two entries have the same mail address", "remove the address from one of them"}
	case errors.Is(err, errRelayed):
		return diagnosis{"an address of ours that nobody has is taken: the domain has a catch-all, or the MTA asks another directory", "see: mailsrv domain show DOMAIN"}
	case errors.Is(err, errNotThere) && len(down) > 0:
		return unreachable(p, down)
	case errors.Is(err, errNotThere):
		return diagnosis{"the message waits in the queue, or was filed elsewhere", "see: mailsrv queue list; and look for the recipient in the MTA's log"}
	case errors.Is(err, errStillThere):
		return diagnosis{"the store did not keep the deletion", "see the store's log, and whether its disk is full"}
	case errors.Is(err, errOtherText):
		return diagnosis{"something between the MTA and the client changes messages", "look for content filters (mta.checks.milters) and proxies"}
	}
	return diagnosis{}
}

// diagnoseTLS explains certificates.
func diagnoseTLS(p place, err error, _ []place) diagnosis {
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		return diagnosis{fmt.Sprintf("the certificate of %s is not for the name %s", p.address, e.Host), "get one for that name, or correct hostname in the file"}
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok && e.Reason == x509.Expired {
		return diagnosis{"the certificate has expired, or a clock is wrong", "renew it, then send the server SIGHUP"}
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return diagnosis{fmt.Sprintf("the certificate of %s is not trusted: this machine does not know who signed it", p.address),
			"put the CA's intermediate certificates into tls.cert too, or name a private CA with --ca (for the directory: directory.ca)"}
	}
	if errors.Is(err, errNoTLS) {
		return noTLS(p)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return diagnosis{fmt.Sprintf("what answers at %s does not speak TLS", p.address), "see which program listens there, and " + p.key}
	}
	return diagnosis{}
}

// noTLS explains a door without STARTTLS.
func noTLS(p place) diagnosis {
	return diagnosis{fmt.Sprintf("the %s at %s offers no STARTTLS: it has no certificate", p.role, p.address), "set tls.cert and tls.key on its host"}
}

// diagnoseIMAP explains what the MMP or a store answered.
func diagnoseIMAP(p place, err error, down []place) diagnosis {
	e, ok := errors.AsType[*imap.Error](err)
	if !ok {
		return diagnosis{}
	}
	switch e.Code {
	case imap.ResponseCodeAuthenticationFailed:
		return diagnosis{"the MMP calls the password wrong that the directory took: it asks another directory", "compare directory.url on the MMP's host with this file's"}
	case imap.ResponseCodeAuthorizationFailed:
		return diagnosis{"the account may not log in: its status, or mailAllowedServiceAccess of the user or the domain, or the store does not take this MMP",
			"see: mailsrv user show LOGIN; compare proxy_name and secret_file of mmp.stores with store.proxies"}
	case imap.ResponseCodeLimit:
		return diagnosis{"too many failed logins came from this address", "wait a minute, or a day after 50 of them"}
	case imap.ResponseCodePrivacyRequired:
		return diagnosis{"the MMP has no certificate, so it takes no password", "set tls.cert and tls.key on its host"}
	case imap.ResponseCodeOverQuota:
		return diagnosis{"the account is over its quota", "raise store.quota, or the entry's mailQuota"}
	case imap.ResponseCodeNonExistent:
		return diagnosis{"the mailbox is not there: nothing was filed in it", "compare mta.sent with the mailboxes of the user; look for the message in the MTA's log"}
	case imap.ResponseCodeUnavailable, imap.ResponseCodeServerBug:
		return unreachable(p, down)
	}
	if e.Type == imap.StatusResponseTypeBad && strings.Contains(e.Text, "STARTTLS") {
		return noTLS(p)
	}
	if e.Type == imap.StatusResponseTypeBye {
		return diagnosis{fmt.Sprintf("%s closes the connection: it stops, or has too many connections", p.address), "see its log"}
	}
	return diagnosis{}
}

// diagnoseSMTP explains what the MTA answered.
func diagnoseSMTP(p place, err error, down []place) diagnosis {
	e, ok := errors.AsType[*smtp.SMTPError](err)
	if !ok {
		return diagnosis{}
	}
	switch {
	case e.Code == 535:
		return diagnosis{"the MTA calls the password wrong that the directory took: it asks another directory", "compare directory.url on the MTA's host with this file's"}
	case e.Code == 454:
		return diagnosis{"the MTA cannot reach the directory", "see directory.url on its host, and its log"}
	case e.Code == 530 || e.Code == 538 || e.Code == 523:
		return diagnosis{"the MTA has no certificate, so it takes no password", "set tls.cert and tls.key on its host"}
	case e.Code == 421:
		return diagnosis{fmt.Sprintf("%s closes the connection: it stops, or has too many connections", p.address), "see its log"}
	case e.EnhancedCode[1] == 3 && e.EnhancedCode[2] == 4:
		return diagnosis{"the MTA takes no message of that size", "raise mta.max_message"}
	case e.Code/100 == 4 && e.EnhancedCode[1] == 7:
		return diagnosis{"a check of the MTA cannot be made now, or asks for patience", "look for the refusal in the MTA's log; see mta.checks"}
	case e.Code == 552 || e.Code == 452:
		return diagnosis{"the recipient is over quota, or a disk is full", "see store.quota and the free space of the data folder"}
	case e.Code == 550 && e.EnhancedCode[1] == 1:
		return diagnosis{"the MTA does not know the user that the directory knows: it asks another directory", "compare directory.url on the MTA's host with this file's"}
	case e.Code == 550 && e.EnhancedCode[1] == 7:
		return diagnosis{"a rule or check of the MTA refuses the message", "look for the refusal in the MTA's log; see mta.checks"}
	case e.Code == 554 || e.Code == 550:
		return diagnosis{"the MTA refuses the message", "look for the refusal in the MTA's log"}
	case e.Code/100 == 4:
		return unreachable(p, down)
	}
	return diagnosis{}
}

// diagnoseLDAP explains what the directory answered.
func diagnoseLDAP(p place, err error, _ []place) diagnosis {
	code := -1
	if e, ok := errors.AsType[*ldap.Error](err); ok {
		code = int(e.ResultCode)
	} else if e, ok := errors.AsType[*directory.ResultError](err); ok {
		code = int(e.Code)
	}
	switch {
	case code == ldap.LDAPResultInvalidCredentials:
		return diagnosis{fmt.Sprintf("%s does not take the password of directory.bind_dn, or keeps another than it was given", p.address),
			"compare directory.bind_dn and bind_password_file with directory.services there"}
	case code == ldap.LDAPResultInsufficientAccessRights || errors.Is(err, directory.ErrDenied):
		return diagnosis{"the account that this file binds with may not make users", "run the command where the directory role runs, or set directory.bind_dn to its admin_dn"}
	case code == ldap.LDAPResultConfidentialityRequired:
		return diagnosis{"the directory takes no password in plain text", "set directory.starttls: true, or write an ldaps:// URL"}
	case code == ldap.LDAPResultNoSuchObject:
		return diagnosis{"the entry directory.suffix is not there", "compare directory.suffix with the directory's naming contexts"}
	case code == ldap.LDAPResultBusy || code == ldap.LDAPResultUnavailable:
		return diagnosis{"the directory is too busy, or stops", "try again; see its log"}
	case code == ldap.ErrorNetwork && !isNet(err):
		return diagnosis{fmt.Sprintf("%s refuses TLS, or its certificate is not trusted", p.address), "see directory.ca and directory.starttls"}
	case errors.Is(err, directory.ErrNotFound):
		return diagnosis{"the domain is not in the directory", "run: mailsrv domain add DOMAIN; or choose another with --domain"}
	}
	return diagnosis{}
}

// isNet reports whether err comes from the network itself.
func isNet(err error) bool {
	_, ok := errors.AsType[*net.OpError](err)
	return ok || errors.Is(err, io.EOF)
}

// diagnoseNet explains connections that do not come about, or end.
func diagnoseNet(p place, err error, _ []place) diagnosis {
	start := fmt.Sprintf("start it there: mailsrv serve --roles=%s --config FILE; or correct %s", p.role, p.key)
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return diagnosis{fmt.Sprintf("nothing listens on %s: the %s role does not run there", p.address, p.role), start}
	case errors.Is(err, syscall.ENOENT):
		return diagnosis{fmt.Sprintf("the %s role does not run on this machine, or with another data folder: there is no socket %s", p.role, p.address), start}
	case errors.Is(err, syscall.EACCES):
		return diagnosis{fmt.Sprintf("this user may not use %s", p.address), "run the command as root or as the server's own user"}
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return diagnosis{fmt.Sprintf("there is no way in the network to %s", p.address), "see routes and firewalls, and " + p.key}
	case isDNS(err):
		return diagnosis{fmt.Sprintf("the host name in %s is unknown", p.address), "correct " + p.key + ", or the DNS"}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, net.ErrClosed), errors.As(err, &timeout) && timeout.Timeout():
		return diagnosis{fmt.Sprintf("%s does not answer in time", p.address), fmt.Sprintf("see the %s's log, and whether a firewall drops packets on the way", p.role)}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return diagnosis{fmt.Sprintf("%s closed the connection: too many from here, or it waits for a PROXY header", p.address), fmt.Sprintf("see the %s's log, and the limits of its listeners", p.role)}
	case errors.Is(err, directory.ErrUnavailable):
		return diagnosis{fmt.Sprintf("the directory cannot be reached at %s", p.address), start}
	}
	return diagnosis{}
}

func isDNS(err error) bool {
	_, ok := errors.AsType[*net.DNSError](err)
	return ok
}

// trust verifies certificates, and keeps the reason against one: some clients
// make mere text of it.
type trust struct {
	roots *x509.CertPool

	mu     sync.Mutex
	reason error
}

// newTrust trusts the system's CAs, that of a file or of the directory, and the
// server's own certificate.
func newTrust(cfg config.Config, ca string) (*trust, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	own := cfg.TLS.Cert
	if ca != "" {
		own = ca
	}
	for _, path := range []string{own, cfg.Directory.CA} {
		pem, err := pemFile(path)
		if err != nil {
			return nil, err
		}
		if path != "" && !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading certificate: none in %s", path)
		}
	}
	return &trust{roots: roots}, nil
}

// config verifies as crypto/tls does, with name.
func (t *trust) config(name string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name, InsecureSkipVerify: true, // VerifyConnection does
		VerifyConnection: func(s tls.ConnectionState) error {
			o := x509.VerifyOptions{Roots: t.roots, DNSName: name, Intermediates: x509.NewCertPool()}
			for _, c := range s.PeerCertificates[1:] {
				o.Intermediates.AddCert(c)
			}
			_, err := s.PeerCertificates[0].Verify(o)
			t.mu.Lock()
			defer t.mu.Unlock()
			t.reason = err
			return err
		}}
}

// blame adds the reason against the last certificate to an error.
func (t *trust) blame(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil || t.reason == nil || errors.Is(err, t.reason) {
		return err
	}
	return fmt.Errorf("%w (%w)", err, t.reason)
}
