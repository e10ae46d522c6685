package schema

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// File is the text of a schema file: OpenLDAP's format for slapd.conf
// (objectidentifier, attributetype, objectclass), or its entries of cn=config
// as LDIF (olcObjectIdentifier, olcAttributeTypes, olcObjectClasses).
type File struct{ Name, Text string }

// maxFile bounds a schema file, in bytes.
const maxFile = 4 << 20

// ReadFolder reads the files of a folder that end in .schema or .ldif, in the
// order of their names.
func ReadFolder(dir string) ([]File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("reading schema folder: %w", err)
	}
	var files []File
	for _, e := range entries { // sorted by name
		if ext := filepath.Ext(e.Name()); e.IsDir() || ext != ".schema" && ext != ".ldif" {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if i, err := e.Info(); err == nil && i.Size() > maxFile {
			return nil, fmt.Errorf("reading schema file %s: larger than %d bytes", path, maxFile)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("reading schema file: %w", err)
		}
		files = append(files, File{Name: path, Text: string(text)})
	}
	return files, nil
}

// read adds what a file defines. Macros of earlier files count in later ones.
func (s *Schema) read(f File, macros map[string]string) error {
	for line, text := range directives(f.Text) {
		if err := s.directive(text, macros); err != nil {
			return fmt.Errorf("%s:%d: %w", f.Name, line, err)
		}
	}
	return nil
}

// directives yields each directive with the number of its first line. A line
// that begins with a space or a tab continues the one before it.
func directives(text string) func(yield func(int, string) bool) {
	return func(yield func(int, string) bool) {
		first, n := 0, 0
		var open []byte
		for line := range strings.Lines(text) {
			n++
			line = strings.TrimRight(line, "\r\n")
			if strings.HasPrefix(line, "#") {
				continue
			}
			if line != "" && (line[0] == ' ' || line[0] == '\t') {
				open = append(append(open, '\n'), line...)
				continue
			}
			if text := string(open); strings.TrimSpace(text) != "" && !yield(first, text) {
				return
			}
			first, open = n, append(open[:0], line...)
		}
		if text := string(open); strings.TrimSpace(text) != "" {
			yield(first, text)
		}
	}
}

func (s *Schema) directive(text string, macros map[string]string) error {
	end := strings.IndexAny(text, " \t\n")
	if end < 0 {
		end = len(text)
	}
	word, rest := strings.ToLower(text[:end]), strings.TrimSpace(text[end:])
	ldif := strings.HasSuffix(word, ":")
	if ldif {
		word = strings.TrimPrefix(strings.TrimSuffix(word, ":"), "olc")
		rest = strings.ReplaceAll(rest, "\n ", "") // RFC 2849: folded, not spaced
		if strings.HasPrefix(rest, "{") {
			_, rest, _ = strings.Cut(rest, "}")
		}
	}
	oid := func(name string) (string, error) { return expand(name, macros) }
	switch word {
	case "objectidentifier":
		name, value, ok := strings.Cut(strings.Join(strings.Fields(rest), " "), " ")
		value, err := expand(value, macros)
		if !ok || err != nil {
			return fmt.Errorf("%w: objectidentifier wants a name and an OID", ErrSyntax)
		}
		macros[strings.ToLower(name)] = value
		return nil
	case "attributetype", "attributetypes":
		return s.defineAttribute(rest, oid)
	case "objectclass", "objectclasses":
		if ldif && !strings.HasPrefix(rest, "(") {
			return nil // the class of the LDIF entry itself
		}
		return s.defineClass(rest, oid)
	}
	if ldif {
		return nil // dn:, cn: and the like
	}
	return fmt.Errorf("%w: unknown directive %q", ErrSyntax, word)
}

// expand returns the OID that a macro stands for, with a suffix behind a colon
// or not.
func expand(name string, macros map[string]string) (string, error) {
	if name != "" && name[0] >= '0' && name[0] <= '9' {
		if !isOID(name) {
			return "", fmt.Errorf("%w: OID %q", ErrSyntax, name)
		}
		return name, nil
	}
	macro, suffix, _ := strings.Cut(name, ":")
	oid, ok := macros[strings.ToLower(macro)]
	if !ok {
		return "", fmt.Errorf("%w: OID %q is not defined", ErrSyntax, name)
	}
	if suffix != "" {
		oid += "." + suffix
	}
	if !isOID(oid) || len(oid) > 256 {
		return "", fmt.Errorf("%w: OID %q", ErrSyntax, name)
	}
	return oid, nil
}

func (s *Schema) defineAttribute(text string, oid func(string) (string, error)) error {
	d, err := parseDefinition(text)
	if err != nil {
		return err
	}
	a, err := attributeType(d, oid)
	if err != nil {
		return err
	}
	if known := s.attributes[a.OID]; known != nil && slices.ContainsFunc(a.Names, func(n string) bool { return s.Attribute(n) == known }) {
		return nil // again: files of other servers bring their own core
	}
	for _, name := range append(a.Names, a.OID) {
		if !isDescriptor(name) || s.attributes[strings.ToLower(name)] != nil {
			return fmt.Errorf("%w: attribute type %q is defined already, or no name", ErrSyntax, name)
		}
	}
	for _, name := range append(a.Names, a.OID) {
		s.attributes[strings.ToLower(name)] = a
	}
	s.attributeTypes = append(s.attributeTypes, a)
	return nil
}

func (s *Schema) defineClass(text string, oid func(string) (string, error)) error {
	d, err := parseDefinition(text)
	if err != nil {
		return err
	}
	c, err := objectClass(d, oid)
	if err != nil {
		return err
	}
	if known := s.classes[c.OID]; known != nil && slices.ContainsFunc(c.Names, func(n string) bool { return s.Class(n) == known }) {
		return nil
	}
	for _, name := range append(c.Names, c.OID) {
		if !isDescriptor(name) || s.classes[strings.ToLower(name)] != nil {
			return fmt.Errorf("%w: object class %q is defined already, or no name", ErrSyntax, name)
		}
	}
	for _, name := range append(c.Names, c.OID) {
		s.classes[strings.ToLower(name)] = c
	}
	s.objectClasses = append(s.objectClasses, c)
	return nil
}

// isOID reports whether s is a numeric OID (RFC 4512 §1.4).
func isOID(s string) bool {
	if !strings.Contains(s, ".") {
		return false
	}
	for part := range strings.SplitSeq(s, ".") {
		if part == "" || len(part) > 1 && part[0] == '0' || strings.Trim(part, "0123456789") != "" {
			return false
		}
	}
	return true
}

// isDescriptor reports whether s is a name or an OID.
func isDescriptor(s string) bool {
	if !IsDescription(s) || strings.Contains(s, ";") {
		return false
	}
	return isOID(s) || !strings.Contains(s, ".") && (s[0] >= 'a' && s[0] <= 'z' || s[0] >= 'A' && s[0] <= 'Z')
}
