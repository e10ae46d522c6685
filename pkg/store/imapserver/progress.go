package imapserver

import (
	"fmt"
	"runtime/debug"
	"strconv"
	"time"
)

// progress tells a client how far a long command is (RFC 9585).
type progress struct {
	tag  string
	goal int
	done int
	told time.Time
}

// begins notes that a command has goal messages to go through; 0: unknown.
func (c *session) begins(tag string, goal int) {
	c.progress = progress{tag: tag, goal: goal, told: time.Now()}
}

// goesOn notes that n more are done, and tells the client now and then.
func (c *session) goesOn(n int) {
	p := &c.progress
	p.done += n
	if time.Since(p.told) < c.o.Progress {
		return
	}
	p.told = time.Now()
	out := append(c.conn.Out(), `* OK [INPROGRESS ("`...)
	out = append(append(out, p.tag...), `" `...)
	if p.goal > 0 {
		out = strconv.AppendInt(out, int64(min(p.done, p.goal-1)), 10) // the goal is reached by the answer
		out = strconv.AppendInt(append(out, ' '), int64(p.goal), 10)
	} else {
		out = append(out, "NIL NIL"...)
	}
	c.conn.SetOut(append(out, ")] still working\r\n"...))
	_ = c.flush() // an error comes back with the answer
}

// patiently runs work that cannot say how far it is, and tells the client that
// it goes on. work must not use the connection.
func (c *session) patiently(tag string, work func() error) error {
	c.begins(tag, 0)
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
		}()
		done <- work()
	}()
	tick := time.NewTicker(c.o.Progress)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			c.goesOn(0)
		}
	}
}
