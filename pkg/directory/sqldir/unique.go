package sqldir

import (
	"slices"
	"strings"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/schema"
)

// addressAttributes share one space of values: an address leads to one entry.
func addressAttributes() []string {
	return []string{"mail", "mailalternateaddress", "mailequivalentaddress"}
}

// domainAttributes share one space too: a name leads to one domain.
func domainAttributes() []string { return []string{"sunpreferreddomain", "associateddomain"} }

// checkUnique keeps addresses, domain names and the uids of a domain unique
// (schema.md section 1: two matches are prevented on write). come is what the
// entry has not had before; moved says that its DN is another.
func (w *write) checkUnique(id int64, e directory.Entry, come []pair, moved bool) error {
	domain, user := e.HasClass("mailDomain"), e.HasClass("inetMailUser")
	for _, p := range come {
		var err error
		switch {
		case slices.Contains(addressAttributes(), p.attr):
			err = w.checkAddress(id, p.value)
		case domain && slices.Contains(domainAttributes(), p.attr):
			if err = w.untaken(id, domainAttributes(), p.value, ""); err == nil {
				err = w.checkDomainName(e, p.value)
			}
		case user && (p.attr == "uid" || p.attr == "objectclass" && p.value == "inetmailuser"):
			moved = true
		}
		if err != nil {
			return err
		}
	}
	if !user || !moved {
		return nil
	}
	under, err := w.domainOf(e.DN)
	if err != nil || under == "" {
		return err
	}
	for _, v := range e.Values("uid") {
		if err := w.untaken(id, []string{"uid"}, schema.Fold(v), under); err != nil {
			return err
		}
	}
	return nil
}

func (w *write) checkAddress(id int64, address string) error {
	variants, err := w.underEveryName(address)
	if err != nil {
		return err
	}
	for _, variant := range variants {
		if err := w.untaken(id, addressAttributes(), variant, ""); err != nil {
			return err
		}
	}
	return nil
}

// checkDomainName checks that a further name of a domain makes no two addresses
// one: what is left of the @ at that name is nobody else's at the other names.
func (w *write) checkDomainName(e directory.Entry, name string) error {
	var others []string
	for _, attr := range domainAttributes() {
		for _, v := range e.Values(attr) {
			if v = schema.Fold(v); v != name {
				others = append(others, v)
			}
		}
	}
	if len(others) == 0 {
		return nil
	}
	holders := map[string]int64{} // of addresses at the name
	for _, attr := range addressAttributes() {
		if err := w.tx.Query("SELECT value, entry FROM value WHERE attr=? AND substr(value,-length(?))=?", []any{attr, "@" + name, "@" + name},
			func(scan func(...any) error) error {
				var v string
				var id int64
				err := scan(&v, &id)
				holders[v] = id
				return err
			}); err != nil {
			return err
		}
	}
	for address, id := range holders {
		for _, other := range others {
			if err := w.untaken(id, addressAttributes(), strings.TrimSuffix(address, name)+other, ""); err != nil {
				return err
			}
		}
	}
	return nil
}

// untaken fails if an entry under that path, other than id, has the value.
func (w *write) untaken(id int64, attrs []string, value, under string) error {
	for _, attr := range attrs {
		err := w.tx.Query("SELECT path FROM value JOIN entry ON id=entry WHERE attr=? AND value=? AND id<>?", []any{attr, value, id},
			func(scan func(...any) error) error {
				var path string
				if err := scan(&path); err != nil {
					return err
				}
				if strings.HasPrefix(path, under) {
					return result(directory.ConstraintViolation, "%s %q is already taken", attr, value)
				}
				return nil
			})
		if err != nil {
			return err
		}
	}
	return nil
}

// underEveryName returns the address at each name of its domain: they all lead
// to the same people.
func (w *write) underEveryName(address string) ([]string, error) {
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return []string{address}, nil
	}
	local, domain := address[:at+1], address[at+1:]
	variants := []string{address}
	for _, attr := range domainAttributes() {
		if err := w.tx.Query(valueQuery, []any{attr, domain}, func(scan func(...any) error) error {
			s := &stored{}
			var raw []byte
			if err := scan(&s.id, &s.path, &raw); err != nil {
				return err
			}
			if err := w.dir.fill(s, raw); err != nil || !s.entry.HasClass("mailDomain") {
				return err
			}
			for _, attr := range domainAttributes() {
				for _, name := range s.entry.Values(attr) {
					if name = schema.Fold(name); name != domain {
						variants = append(variants, local+name)
					}
				}
			}
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return variants, nil
}

// domainOf returns the path of the domain's node that dn lies under, or "".
func (w *write) domainOf(dn directory.DN) (string, error) {
	for p := dn.Parent(); !p.IsRoot(); p = p.Parent() {
		s, err := w.dir.get(w.tx, w.dir.path(p))
		if err != nil || s == nil {
			return "", err
		}
		if s.entry.HasClass("mailDomain") {
			return s.path, nil
		}
	}
	return "", nil
}
