package cmd

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// bar shows how far something is, in one line of a terminal; elsewhere nothing.
type bar struct {
	out   io.Writer // nil: no terminal
	drawn time.Time
	last  string // the step that was drawn
}

func newBar(out io.Writer) *bar {
	f, ok := out.(*os.File)
	if !ok {
		return &bar{}
	}
	if st, err := f.Stat(); err != nil || st.Mode()&os.ModeCharDevice == 0 {
		return &bar{}
	}
	return &bar{out: out}
}

// drawEvery is the least time between two lines of one step.
const drawEvery = 100 * time.Millisecond

// step draws one thing's progress.
func (b *bar) step(step string, done, total int64) {
	if total == 0 {
		b.draw(step, step)
		return
	}
	b.draw(step, fmt.Sprintf("%s %s %s of %s", gauge(done, total), step, bytesText(done), bytesText(total)))
}

// all draws how far one of many things is.
func (b *bar) all(i, n int, what, step string, done, total int64) {
	const fine = 1000
	part := int64(0)
	if total > 0 {
		part = done * fine / total
	}
	b.draw(what+step, fmt.Sprintf("%s %d of %d  %s: %s", gauge(int64(i)*fine+part, int64(n)*fine), i+1, n, what, step))
}

// gauge is a bar of 20 characters.
func gauge(done, total int64) string {
	const width = 20
	full := 0
	if total > 0 {
		full = int(min(max(done, 0), total) * width / total)
	}
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", width-full) + "]"
}

func (b *bar) draw(step, line string) {
	if b.out == nil || step == b.last && time.Since(b.drawn) < drawEvery {
		return
	}
	b.last, b.drawn = step, time.Now()
	fmt.Fprintf(b.out, "\r\x1b[K%.100s", line) // to the line's start, and empty it
}

// clear takes the line away.
func (b *bar) clear() {
	if b.out != nil && b.last != "" {
		fmt.Fprint(b.out, "\r\x1b[K")
		b.last = ""
	}
}
