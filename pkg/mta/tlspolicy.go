package mta

import (
	"context"
	"crypto/tls"
)

// TLSPolicy knows what other people's mail hosts have to prove before mail is
// sent to them. It may be used from many goroutines.
type TLSPolicy interface {
	// Protect says what a connection to host, an MX of domain, has to prove; nil:
	// nothing, TLS is opportunistic. Both names are lower-case A-labels without
	// trailing dot. Its error says why that host gets no mail now; it is a
	// *mail.Status, or transient.
	Protect(ctx context.Context, domain, host string) (*Protection, error)
}

// Protection is TLS without which no message is sent: there is no going on in
// plain text, whatever the host offers or fails to offer.
type Protection struct {
	// By names the policy, for the log: "mta-sts", "dane".
	By string
	// Verify judges the server's certificates instead of the usual rules; nil:
	// they must be valid for the host's name.
	Verify func(tls.ConnectionState) error
}
