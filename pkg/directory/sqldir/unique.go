package sqldir

import (
	"strings"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/sqlite"
)

// addressAttributes share one space of values: an address leads to one entry.
func addressAttributes() []string {
	return []string{"mail", "mailalternateaddress", "mailequivalentaddress"}
}

// domainAttributes share one space too: a name leads to one domain.
func domainAttributes() []string { return []string{"sunpreferreddomain", "associateddomain"} }

// checkUnique keeps addresses, domain names and the uids of a domain unique
// (schema.md section 1: two matches are prevented on write).
func checkUnique(tx *sqlite.Tx, id int64, e directory.Entry) error {
	for _, attr := range addressAttributes() {
		for _, v := range e.Values(attr) {
			variants, err := underEveryName(tx, directory.Fold(v))
			if err != nil {
				return err
			}
			for _, variant := range variants {
				if err := untaken(tx, id, addressAttributes(), variant, ""); err != nil {
					return err
				}
			}
		}
	}
	if e.HasClass("mailDomain") {
		for _, attr := range domainAttributes() {
			for _, v := range e.Values(attr) {
				if err := untaken(tx, id, domainAttributes(), directory.Fold(v), ""); err != nil {
					return err
				}
			}
		}
	}
	if !e.HasClass("inetMailUser") {
		return nil
	}
	domain, err := domainOf(tx, e.DN)
	if err != nil || domain == "" {
		return err
	}
	for _, v := range e.Values("uid") {
		if err := untaken(tx, id, []string{"uid"}, directory.Fold(v), domain); err != nil {
			return err
		}
	}
	return nil
}

// untaken fails if an entry under that path, other than id, has the value.
func untaken(tx *sqlite.Tx, id int64, attrs []string, value, under string) error {
	for _, attr := range attrs {
		err := tx.Query("SELECT path FROM value JOIN entry ON id=entry WHERE attr=? AND value=? AND id<>?", []any{attr, value, id},
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
func underEveryName(tx *sqlite.Tx, address string) ([]string, error) {
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return []string{address}, nil
	}
	local, domain := address[:at+1], address[at+1:]
	variants := []string{address}
	for _, attr := range domainAttributes() {
		if err := tx.Query("SELECT content FROM value JOIN entry ON id=entry WHERE attr=? AND value=?", []any{attr, domain},
			func(scan func(...any) error) error {
				var raw []byte
				if err := scan(&raw); err != nil {
					return err
				}
				e, err := decode(raw)
				if err != nil || !e.HasClass("mailDomain") {
					return err
				}
				for _, attr := range domainAttributes() {
					for _, name := range e.Values(attr) {
						if name = directory.Fold(name); name != domain {
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
func domainOf(tx *sqlite.Tx, dn directory.DN) (string, error) {
	for p := dn.Parent(); !p.IsRoot(); p = p.Parent() {
		s, found, err := get(tx, pathOf(p))
		if err != nil || !found {
			return "", err
		}
		if s.entry.HasClass("mailDomain") {
			return s.path, nil
		}
	}
	return "", nil
}
