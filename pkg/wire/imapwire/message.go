package imapwire

import "io"

// Message is a literal of an APPEND or REPLACE, read by the command's handler. A
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

// announce takes a literal as the message that comes next.
func (m *Message) announce(lit literal) {
	m.size, m.left, m.sync, m.started = lit.size, lit.size, lit.sync, false
	m.r.open = true
}

// Next reads on after the message was read: args is at what follows it on its
// line. If that ends in a further literal, more is true and the Message now
// stands for it; what follows is read by the next call. Else the command has
// been read to its end.
func (m *Message) Next() (args *Lexer, more bool, err error) {
	if !m.started || m.left > 0 {
		return nil, false, m.r.finishMessage()
	}
	r := m.r
	r.open = false
	r.buf = r.buf[:0]
	n, err := r.readLine(m.line)
	m.line -= n
	if err != nil {
		return nil, false, err
	}
	lit := literalAtEnd(r.buf)
	r.lex = Lexer{buf: r.buf[:len(r.buf)-lit.marker], depth: r.lex.depth, utf8Names: r.UTF8Names}
	if lit.tooBig {
		return nil, false, r.refuse(lit, m.drain, r.bad("TOOBIG", "literal is too large"))
	}
	if lit.is {
		m.announce(lit)
	}
	return &r.lex, lit.is, nil
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
