package schema

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrSyntax is in the chain of every error about a definition.
var ErrSyntax = errors.New("malformed schema")

// maxTokens bounds one definition.
const maxTokens = 4096

// definition is what stands in the parentheses of RFC 4512 §4.1: an OID, and
// words with their values; those that have none have an empty list.
type definition struct {
	oid    string
	fields map[string][]string
	order  []string
}

// parseDefinition reads "( oid WORD value WORD ( value $ value ) ... )".
func parseDefinition(text string) (definition, error) {
	d := definition{fields: map[string][]string{}}
	tokens, err := tokenize(text)
	if err != nil {
		return d, err
	}
	n := len(tokens)
	if n < 3 || !tokens[0].is("(") || !tokens[n-1].is(")") || tokens[1].special() {
		return d, fmt.Errorf("%w: not ( oid ... )", ErrSyntax)
	}
	d.oid = tokens[1].text
	rest := tokens[2 : n-1]
	for len(rest) > 0 {
		word := rest[0]
		if word.special() {
			return d, fmt.Errorf("%w: %q where a keyword should be", ErrSyntax, word.text)
		}
		key := strings.ToUpper(word.text)
		if _, twice := d.fields[key]; twice {
			return d, fmt.Errorf("%w: %s stands twice", ErrSyntax, key)
		}
		rest = rest[1:]
		var values []string
		if !isFlag(key) {
			if values, rest, err = takeValues(key, rest); err != nil {
				return d, err
			}
		}
		d.fields[key], d.order = values, append(d.order, key)
	}
	return d, nil
}

func isFlag(key string) bool {
	switch key {
	case "OBSOLETE", "SINGLE-VALUE", "COLLECTIVE", "NO-USER-MODIFICATION", "ABSTRACT", "STRUCTURAL", "AUXILIARY":
		return true
	}
	return false
}

// takeValues reads one value, or several in parentheses.
func takeValues(key string, tokens []token) (values []string, rest []token, err error) {
	if len(tokens) == 0 {
		return nil, nil, fmt.Errorf("%w: %s without a value", ErrSyntax, key)
	}
	if !tokens[0].is("(") {
		if tokens[0].special() {
			return nil, nil, fmt.Errorf("%w: %s without a value", ErrSyntax, key)
		}
		return []string{tokens[0].text}, tokens[1:], nil
	}
	for i, t := range tokens[1:] {
		switch {
		case t.is(")"):
			return values, tokens[i+2:], nil
		case t.is("$"):
		case t.special():
			return nil, nil, fmt.Errorf("%w: parentheses within parentheses", ErrSyntax)
		default:
			values = append(values, t.text)
		}
	}
	return nil, nil, fmt.Errorf("%w: a parenthesis is not closed", ErrSyntax)
}

// one is the value of a word that has one; empty if it is absent.
func (d definition) one(key string) (string, error) {
	values, ok := d.fields[key]
	if !ok {
		return "", nil
	}
	if len(values) != 1 {
		return "", fmt.Errorf("%w: %s has %d values", ErrSyntax, key, len(values))
	}
	return values[0], nil
}

func (d definition) has(key string) bool {
	_, ok := d.fields[key]
	return ok
}

// token is a word, a quoted string, or one of ( ) $.
type token struct {
	text   string
	quoted bool
}

func (t token) special() bool { return !t.quoted && (t.text == "(" || t.text == ")" || t.text == "$") }

func (t token) is(s string) bool { return !t.quoted && t.text == s }

func tokenize(s string) ([]token, error) {
	var tokens []token
	for {
		s = strings.TrimLeft(s, " \t\r\n")
		if s == "" {
			return tokens, nil
		}
		if len(tokens) == maxTokens {
			return nil, fmt.Errorf("%w: a definition of more than %d words", ErrSyntax, maxTokens)
		}
		switch s[0] {
		case '(', ')', '$':
			tokens, s = append(tokens, token{text: s[:1]}), s[1:]
		case '\'':
			end := strings.IndexByte(s[1:], '\'')
			if end < 0 {
				return nil, fmt.Errorf("%w: a quote is not closed", ErrSyntax)
			}
			text, err := unquote(s[1 : 1+end])
			if err != nil {
				return nil, err
			}
			tokens, s = append(tokens, token{text, true}), s[end+2:]
		default:
			end := strings.IndexAny(s, " \t\r\n()$'")
			if end < 0 {
				end = len(s)
			}
			tokens, s = append(tokens, token{text: s[:end]}), s[end:]
		}
	}
}

// unquote undoes the two escapes of a quoted string: \27 and \5c.
func unquote(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", fmt.Errorf("%w: bad escape", ErrSyntax)
		}
		c, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", fmt.Errorf("%w: bad escape", ErrSyntax)
		}
		b.WriteByte(byte(c))
		i += 2
	}
	return b.String(), nil
}

// quoted is s as a quoted string.
func quoted(s string) string {
	return "'" + strings.NewReplacer(`\`, `\5c`, `'`, `\27`).Replace(s) + "'"
}

// writer puts a definition together again.
type writer struct{ strings.Builder }

func define(oid string) *writer {
	w := &writer{}
	w.WriteString("( " + oid)
	return w
}

func (w *writer) names(names []string) {
	switch len(names) {
	case 0:
	case 1:
		w.WriteString(" NAME " + quoted(names[0]))
	default:
		w.WriteString(" NAME (")
		for _, n := range names {
			w.WriteString(" " + quoted(n))
		}
		w.WriteString(" )")
	}
}

func (w *writer) text(word, value string) {
	if value != "" {
		w.WriteString(" " + word + " " + quoted(value))
	}
}

func (w *writer) word(word, value string) {
	if value != "" {
		w.WriteString(" " + word + " " + value)
	}
}

func (w *writer) flag(word string, set bool) {
	if set {
		w.WriteString(" " + word)
	}
}

func (w *writer) list(word string, values []string) {
	switch len(values) {
	case 0:
	case 1:
		w.word(word, values[0])
	default:
		w.WriteString(" " + word + " ( " + strings.Join(values, " $ ") + " )")
	}
}

func (w *writer) end() string { return w.String() + " )" }
