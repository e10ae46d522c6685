package imapserver

import "strings"

// delimiter stands between the levels of a mailbox name.
const delimiter = "/"

// pattern is a LIST pattern: "*" is any text, "%" any without a delimiter
// (RFC 3501 §6.3.8). It follows all ways through the pattern at once, one bit
// each, so a name costs its length times the pattern's length/64, whatever the
// wildcards (hardening row I5). It is used by one goroutine.
type pattern struct {
	text string
	// inbox: it matches INBOX, which is compared without regard to case.
	inbox bool
	// words is the length of a bit set over text: bit i stands for having read
	// what text[:i] can stand for.
	words int
	// row is where in sets the places of an octet are; 0: it has none.
	row  [256]uint8
	sets []uint64
	// any and level are the places of "*" and "%", at is where we are.
	any, level, at []uint64
}

func newPattern(text string) *pattern {
	p := compile(text)
	p.inbox = compile(strings.ToUpper(text)).run("INBOX")
	return p
}

func compile(text string) *pattern {
	text = collapse(text)
	p := &pattern{text: text, words: len(text)/64 + 1}
	p.any, p.level, p.at = make([]uint64, p.words), make([]uint64, p.words), make([]uint64, p.words)
	p.sets = make([]uint64, p.words) // row 0: nowhere
	for i := range len(text) {
		set := p.any
		switch c := text[i]; c {
		case '*':
		case '%':
			set = p.level
		default:
			if p.row[c] == 0 {
				p.row[c] = uint8(len(p.sets) / p.words)
				p.sets = append(p.sets, make([]uint64, p.words)...)
			}
			set = p.sets[int(p.row[c])*p.words:]
		}
		set[i/64] |= 1 << (i % 64)
	}
	return p
}

// collapse makes one wildcard of those in a row, so that each has a letter, or
// the end, behind it.
func collapse(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); {
		run := i
		for run < len(text) && (text[run] == '*' || text[run] == '%') {
			run++
		}
		switch {
		case run == i:
			b.WriteByte(text[i])
			run++
		case strings.Contains(text[i:run], "*"):
			b.WriteByte('*')
		default:
			b.WriteByte('%')
		}
		i = run
	}
	return b.String()
}

// matches reports whether name fits.
func (p *pattern) matches(name string) bool {
	return p.run(name) || p.inbox && name == "INBOX"
}

func (p *pattern) run(name string) bool {
	clear(p.at)
	p.at[0] = 1
	p.pass()
	for i := range len(name) {
		set := p.sets[int(p.row[name[i]])*p.words:]
		var alive, carry uint64
		for w, at := range p.at {
			stay := at & p.any[w]
			if name[i] != delimiter[0] {
				stay |= at & p.level[w]
			}
			step := at & set[w]
			p.at[w] = stay | step<<1 | carry
			carry = step >> 63
			alive |= p.at[w]
		}
		if alive == 0 {
			return false
		}
		p.pass()
	}
	end := len(p.text)
	return p.at[end/64]>>(end%64)&1 == 1
}

// pass goes on behind wildcards, which may stand for nothing.
func (p *pattern) pass() {
	var carry uint64
	for w, at := range p.at {
		over := at & (p.any[w] | p.level[w])
		p.at[w] = at | over<<1 | carry
		carry = over >> 63
	}
}
