package imapserver

import "strings"

// delimiter stands between the levels of a mailbox name.
const delimiter = "/"

// pattern is a LIST pattern: "*" is any text, "%" any without a delimiter
// (RFC 3501 §6.3.8). It follows all ways through the pattern at once, so a
// name costs its length times the pattern's, whatever the wildcards
// (hardening row I5). It is used by one goroutine.
type pattern struct {
	text string
	// at and next hold, for each i, whether text[:i] can stand for what was read.
	at, next []bool
}

func newPattern(text string) *pattern {
	for strings.Contains(text, "**") {
		text = strings.ReplaceAll(text, "**", "*")
	}
	return &pattern{text: text, at: make([]bool, len(text)+1), next: make([]bool, len(text)+1)}
}

// matches reports whether name fits. INBOX fits in any case.
func (p *pattern) matches(name string) bool {
	return p.run(name, false) || name == "INBOX" && p.run(name, true)
}

func (p *pattern) run(name string, fold bool) bool {
	clear(p.at)
	p.reach(p.at, 0)
	for i := range len(name) {
		clear(p.next)
		alive := false
		for j, ok := range p.at[:len(p.text)] {
			if !ok {
				continue
			}
			switch t := p.text[j]; {
			case t == '*', t == '%' && name[i] != delimiter[0]:
				p.reach(p.next, j)
				alive = true
			case t == '%':
			case t == name[i], fold && upper(t) == upper(name[i]):
				p.reach(p.next, j+1)
				alive = true
			}
		}
		if !alive {
			return false
		}
		p.at, p.next = p.next, p.at
	}
	return p.at[len(p.text)]
}

// reach marks i, and what lies behind wildcards that stand for nothing.
func (p *pattern) reach(states []bool, i int) {
	for ; !states[i]; i++ {
		states[i] = true
		if i == len(p.text) || p.text[i] != '*' && p.text[i] != '%' {
			return
		}
	}
}

func upper(c byte) byte {
	if c >= 'a' && c <= 'z' {
		return c - 'a' + 'A'
	}
	return c
}
