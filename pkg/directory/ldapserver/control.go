package ldapserver

import (
	"context"
	"slices"
	"strings"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/wire/ldapwire"
)

// controls are those of a request (RFC 4511 §4.1.11), and for whom it runs.
type controls struct {
	as          asker
	paged       *ldapwire.Paged
	sort        []ldapwire.SortKey
	mustSort    bool
	assert      *directory.Filter
	pre, post   []string // nil: not asked for
	subtree     bool
	deref       int // of a search: derefAliases
	wantsPolicy bool
}

// supportedControls are told in the root DSE.
func supportedControls() []string {
	return []string{ldapwire.OIDPagedResults, ldapwire.OIDSort, ldapwire.OIDAssertion, ldapwire.OIDPreRead, ldapwire.OIDPostRead,
		ldapwire.OIDManageDSAIT, ldapwire.OIDSubtreeDelete, ldapwire.OIDProxiedAuthz, ldapwire.OIDPolicy}
}

// applies reports whether a control means something for a request. One that
// does not is as unknown as one that nobody knows.
func applies(oid string, request ldapwire.Tag) bool {
	edits := []ldapwire.Tag{ldapwire.TagAddRequest, ldapwire.TagModifyRequest, ldapwire.TagDelRequest, ldapwire.TagModifyDNRequest}
	reads := []ldapwire.Tag{ldapwire.TagSearchRequest, ldapwire.TagCompareRequest}
	switch oid {
	case ldapwire.OIDPagedResults, ldapwire.OIDSort:
		return request == ldapwire.TagSearchRequest
	case ldapwire.OIDAssertion:
		return slices.Contains(edits, request) || slices.Contains(reads, request)
	case ldapwire.OIDPreRead:
		return slices.Contains(edits[1:], request)
	case ldapwire.OIDPostRead:
		return slices.Contains(edits, request) && request != ldapwire.TagDelRequest
	case ldapwire.OIDSubtreeDelete:
		return request == ldapwire.TagDelRequest
	case ldapwire.OIDManageDSAIT: // we keep no referrals: all our entries are managed as such
		return slices.Contains(edits, request) || slices.Contains(reads, request)
	case ldapwire.OIDProxiedAuthz:
		return slices.Contains(edits, request) || slices.Contains(reads, request) || request == ldapwire.TagExtendedRequest
	case ldapwire.OIDPolicy:
		return request == ldapwire.TagBindRequest || request == ldapwire.TagAddRequest || request == ldapwire.TagModifyRequest ||
			request == ldapwire.TagExtendedRequest
	}
	return false
}

// controlsOf reads the controls of a request. Unknown critical ones, and
// malformed known ones, refuse it.
func (c *session) controlsOf(m ldapwire.Message) (controls, error) {
	with := controls{as: c.asker}
	for _, control := range m.Controls {
		if !applies(control.OID, m.Op.Tag()) {
			if control.Critical {
				return with, refusal(directory.UnavailableCritExtension, "unknown critical control "+printable(control.OID))
			}
			continue
		}
		if err := c.control(&with, control); err != nil {
			if _, ok := err.(*directory.ResultError); !ok {
				err = &directory.ResultError{Code: directory.ProtocolError, Text: "malformed control " + control.OID, Err: err}
			}
			return with, err
		}
	}
	if c.srv.operator == nil && (with.assert != nil && isEdit(m.Op) || with.pre != nil || with.post != nil || with.subtree) {
		return with, refusal(directory.UnavailableCritExtension, "not with this directory")
	}
	return with, nil
}

func isEdit(op ldapwire.Op) bool {
	return applies(ldapwire.OIDPreRead, op.Tag()) || op.Tag() == ldapwire.TagAddRequest
}

func (c *session) control(with *controls, control ldapwire.Control) (err error) {
	switch control.OID {
	case ldapwire.OIDPagedResults:
		var p ldapwire.Paged
		p, err = ldapwire.DecodePaged(control.Value)
		with.paged = &p
	case ldapwire.OIDSort:
		with.sort, err = ldapwire.DecodeSort(control.Value)
		with.mustSort = control.Critical
	case ldapwire.OIDAssertion:
		var f ldapwire.Filter
		if f, err = ldapwire.DecodeFilter(control.Value); err == nil {
			assert := filterOf(&f)
			with.assert = &assert
		}
	case ldapwire.OIDPreRead:
		with.pre, err = selected(control.Value)
	case ldapwire.OIDPostRead:
		with.post, err = selected(control.Value)
	case ldapwire.OIDSubtreeDelete:
		with.subtree = true
	case ldapwire.OIDPolicy:
		with.wantsPolicy = true
	case ldapwire.OIDProxiedAuthz:
		with.as, err = c.proxied(control)
	}
	return err
}

func selected(value string) ([]string, error) {
	names, err := ldapwire.DecodeSelection(value)
	if names == nil {
		names = []string{}
	}
	return names, err
}

// proxied is whom a service stands for (RFC 4370): it has the rights of them,
// and of nobody else. Only services and admins may.
func (c *session) proxied(control ldapwire.Control) (asker, error) {
	if !control.Critical {
		return asker{}, refusal(directory.ProtocolError, "proxied authorization must be critical")
	}
	if !c.privileged {
		return asker{}, refusal(directory.AuthorizationDenied, "")
	}
	if control.Value == "" {
		return asker{}, nil // anonymous
	}
	name, ok := strings.CutPrefix(control.Value, "dn:")
	if !ok {
		return asker{}, refusal(directory.AuthorizationDenied, "only dn: identities")
	}
	dn, err := parseDN(name)
	if err != nil {
		return asker{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.srv.o.TimeLimit)
	defer cancel()
	if c.srv.o.Access.Privileged(dn) && !c.DN.Equal(dn) {
		return asker{}, refusal(directory.AuthorizationDenied, "") // rights do not grow this way
	}
	return c.srv.asker(ctx, dn)
}
