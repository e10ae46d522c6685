package imapserver

import (
	"mailsrv/pkg/wire"
	"mailsrv/pkg/wire/imapwire"
)

// compress is COMPRESS (RFC 4978). The compression begins behind its answer.
func (c *session) compress(cmd *imapwire.Command) error {
	cmd.Args.Space()
	if cmd.Args.Keyword() != "DEFLATE" {
		cmd.Args.Fail("unknown compression")
	}
	if err := cmd.Args.End(); err != nil {
		return bad(err)
	}
	if c.compressed != plain {
		return no("COMPRESSIONACTIVE", "compression is active")
	}
	if c.conn.Buffered() > 0 { // compressed or not, nobody can tell
		return &fatalError{text: "text after COMPRESS and before its answer"}
	}
	c.compressed = compressNext
	return nil
}

// compression is what the connection is, or becomes once the answer is written.
type compression int

const (
	plain compression = iota
	compressNext
	compressing
)

// upgrade begins the compression after the answer that promised it.
func (c *session) upgrade() error {
	if c.compressed != compressNext {
		return nil
	}
	if err := c.flush(); err != nil {
		return err
	}
	c.compressed = compressing
	return c.conn.Upgrade(wire.Deflate(c.conn.Raw()))
}
