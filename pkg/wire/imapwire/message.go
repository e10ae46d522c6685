package imapwire

import "io"

// Message is the literal of an APPEND, read by the command's handler. A
// handler that refuses it simply does not read it: the next ReadCommand drops
// what the client sends all the same.
type Message struct {
	r       *Reader
	size    int64
	left    int64
	sync    bool
	started bool
	drain   int64
	line    int
}

// Size is the announced size in octets; nothing bounds it but the handler.
func (m *Message) Size() int64 { return m.size }

// Read reads the message. The first call asks a client that waits for it to
// go on. It returns io.EOF after Size octets, and io.ErrUnexpectedEOF if the
// connection ends before.
func (m *Message) Read(p []byte) (int, error) {
	m.start()
	if m.left == 0 {
		return 0, io.EOF
	}
	n, err := m.r.conn.Read(p[:min(int64(len(p)), m.left)])
	m.left -= int64(n)
	return n, unexpected(err)
}

func (m *Message) start() {
	if !m.started && m.sync {
		m.r.conn.WriteString("+ go ahead\r\n")
	}
	m.started = true
}

// Finish reads the end of the command after the message was read, and reports
// a *BadCommandError if anything but the line end follows.
func (m *Message) Finish() error {
	if !m.started || m.left > 0 {
		return m.r.finishMessage()
	}
	m.r.open = false
	m.r.buf = m.r.buf[:0]
	n, err := m.r.readLine(m.line)
	if err != nil {
		return err
	}
	if n > 0 {
		return m.r.refuse(literalAtEnd(m.r.buf), m.drain, m.r.bad("", "unexpected text after the message"))
	}
	return nil
}

// finishMessage drops what is left of a message that its handler did not
// finish.
func (r *Reader) finishMessage() error {
	if !r.open {
		return nil
	}
	r.open = false
	m := &r.msg
	if m.sync && !m.started {
		return nil // never asked for, so never sent
	}
	return r.refuse(literal{is: true, size: m.left}, m.drain, nil)
}
