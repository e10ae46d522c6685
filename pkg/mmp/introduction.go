package mmp

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
)

// Introduction is what a proxy says of its client, by ID (RFC 2971) or XCLIENT.
type Introduction struct {
	// Addr is the client's; not valid: not said.
	Addr netip.AddrPort
	// TLS: the client came to the proxy so.
	TLS bool
	// Service is the client's, or empty.
	Service directory.Service
	// Trace is the proxy's name for the session, or empty.
	Trace mail.TraceID
	// TTL is how many more proxies may follow; 0: not said.
	TTL int
}

// Parse takes one word of an introduction, in the name that ID gives it; a name
// or value without meaning is passed over. port may come before or after ip.
func (i *Introduction) Parse(name, value string) {
	switch strings.ToLower(name) {
	case "x-originating-ip":
		if a, err := netip.ParseAddr(value); err == nil {
			i.Addr = netip.AddrPortFrom(a.Unmap(), i.Addr.Port())
		}
	case "x-originating-port":
		if p, err := strconv.ParseUint(value, 10, 16); err == nil {
			i.Addr = netip.AddrPortFrom(i.Addr.Addr(), uint16(p))
		}
	case "x-client-transport":
		i.TLS = strings.Contains(strings.ToUpper(value), "TLS")
	case "x-service":
		i.Service = directory.Service(strings.ToLower(value))
	case "x-session-ext-id":
		i.Trace, _ = mail.ParseTraceID(value)
	case "x-proxy-ttl":
		if n, err := strconv.Atoi(value); err == nil && n > 0 {
			i.TTL = min(n, MaxHops)
		}
	}
}

// Trusts reports whether the visitor is an MMP whose word counts.
func (v *Visitor) Trusts() bool {
	hop := v.Client.Addr.Addr()
	if v.Client.Peer.IsValid() {
		hop = v.Client.Peer.Addr()
	}
	return slices.ContainsFunc(v.o.Trusted, func(n netip.Prefix) bool { return n.Contains(hop) })
}

// Introduce takes what the visitor says of its client. From strangers only the
// number of proxies counts, which can but end a loop; a PROXY header that came
// before is not contradicted.
func (v *Visitor) Introduce(i Introduction) {
	if i.TTL > 0 {
		v.Hops = max(v.Hops, MaxHops-i.TTL)
	}
	v.said = i
	if !v.Trusts() {
		return
	}
	if i.Trace != "" {
		v.rename(i.Trace)
	}
	if !i.Addr.Addr().IsValid() || v.Client.Peer.IsValid() {
		return
	}
	v.Client.Peer, v.Client.Addr = v.Client.Addr, i.Addr
	v.Client.TLS = v.Client.TLS || i.TLS
	v.Client.Service = v.protocol
	if i.Service == v.protocol.OverTLS() {
		v.Client.Service = i.Service
	}
	v.rename(v.Trace) // the log names the client
}

// rename goes on under that trace id, and the client's own address.
func (v *Visitor) rename(trace mail.TraceID) {
	v.Trace = trace
	v.Log = v.o.Log.With("trace", string(trace), "peer", v.Client.Addr.String())
}
