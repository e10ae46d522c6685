package directory

import "strings"

// Replay is how an MMP logs users in to their store (schema.md section 4).
type Replay struct {
	// Password: the MMP verifies nothing and passes the password on to a store
	// that keeps its own (mailAccessProxyPreAuth: no).
	Password bool
	// Login is the template of the login name there (mailAccessProxyReplay);
	// empty: the account's name.
	Login string
}

// StoreLogin is the user's login name at a store, by the domain's template: %U
// is the uid, %V the domain, %A[attribute] a value of the user's entry, and %%
// a percent sign. What a template leaves empty, or cannot mean, is the account's
// own name: nobody gets into another's mailbox by a typing error.
func (u User) StoreLogin() string {
	var b strings.Builder
	rest := u.Replay.Login
	for {
		text, escape, found := strings.Cut(rest, "%")
		b.WriteString(text)
		if !found {
			break
		}
		value, after, ok := u.replayed(escape)
		if !ok {
			return u.Account()
		}
		b.WriteString(value)
		rest = after
	}
	if b.Len() == 0 || strings.ContainsFunc(b.String(), func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return u.Account()
	}
	return b.String()
}

// replayed is the value of the escape that follows a percent sign.
func (u User) replayed(escape string) (value, rest string, ok bool) {
	if escape == "" {
		return "", "", false
	}
	switch rest = escape[1:]; escape[0] {
	case 'U':
		value = u.UID
	case 'V':
		value = u.Domain
	case '%':
		value = "%"
	case 'A':
		name, after, closed := strings.Cut(strings.TrimPrefix(rest, "["), "]")
		if !closed || !strings.HasPrefix(rest, "[") {
			return "", "", false
		}
		value, rest = u.Entry.Value(name), after
	}
	return value, rest, value != ""
}
