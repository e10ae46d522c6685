package ldapserver

import (
	"context"
	"errors"
	"strconv"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/wire/ldapwire"
)

func result(code directory.ResultCode, text string) ldapwire.Result {
	return ldapwire.Result{Code: int(code), Text: text}
}

// refusal is a result that is no success, as an error.
func refusal(code directory.ResultCode, text string) *directory.ResultError {
	return &directory.ResultError{Code: code, Text: text}
}

// done is a response that is nothing but its result.
func done(response ldapwire.Tag, res ldapwire.Result) *ldapwire.Done {
	return &ldapwire.Done{Kind: response, Result: res}
}

// refuse is the response to a request of that tag; nil if it has none.
func refuse(request ldapwire.Tag, res ldapwire.Result) ldapwire.Op {
	switch request {
	case ldapwire.TagBindRequest:
		return &ldapwire.BindResponse{Result: res}
	case ldapwire.TagExtendedRequest:
		return &ldapwire.ExtendedResponse{Result: res}
	case ldapwire.TagSearchRequest:
		return done(ldapwire.TagSearchDone, res)
	case ldapwire.TagCompareRequest:
		return done(ldapwire.TagCompareResponse, res)
	case ldapwire.TagAddRequest:
		return done(ldapwire.TagAddResponse, res)
	case ldapwire.TagModifyRequest:
		return done(ldapwire.TagModifyResponse, res)
	case ldapwire.TagDelRequest:
		return done(ldapwire.TagDelResponse, res)
	case ldapwire.TagModifyDNRequest:
		return done(ldapwire.TagModifyDNResponse, res)
	}
	return nil
}

// result makes of a Tree's error what the client may hear; nil is success.
func (a asker) result(c *session, err error) ldapwire.Result {
	if err == nil {
		return ldapwire.Result{}
	}
	if r, ok := errors.AsType[*directory.ResultError](err); ok {
		res := result(r.Code, r.Text)
		if !r.Matched.IsRoot() && a.mayRead(c.srv, r.Matched, "") {
			res.MatchedDN = r.Matched.String()
		}
		return res
	}
	for _, known := range [...]struct {
		is   error
		code directory.ResultCode
		text string
	}{
		{directory.ErrNotFound, directory.NoSuchObject, ""},
		{directory.ErrBadCredentials, directory.InvalidCredentials, ""},
		{directory.ErrExists, directory.EntryAlreadyExists, ""},
		{directory.ErrDenied, directory.InsufficientAccessRights, ""},
		{context.DeadlineExceeded, directory.TimeLimitExceeded, ""},
		{directory.ErrUnavailable, directory.Unavailable, "directory unavailable"},
		{context.Canceled, directory.Unavailable, "shutting down"},
	} {
		if errors.Is(err, known.is) {
			return result(known.code, known.text)
		}
	}
	c.log.Error("operation failed", "err", err)
	return result(directory.OtherError, "internal error")
}

// parseDN reads a DN that a client sent.
func parseDN(s string) (directory.DN, error) {
	dn, err := directory.ParseDN(s)
	if err != nil {
		return dn, &directory.ResultError{Code: directory.InvalidDNSyntax, Text: "malformed DN", Err: err}
	}
	return dn, nil
}

// printable is a stranger's text fit for a log line or a reply, and not long.
func printable(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most] + "..."
	}
	q := strconv.QuoteToASCII(s)
	return q[1 : len(q)-1]
}
