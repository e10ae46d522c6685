package directory

import "mailsrv/pkg/schema"

// DN, RDN, AttributeValue and Attribute are the schema's: names of entries (RFC
// 4514), and attributes with their values in the case they were given.
type (
	DN             = schema.DN
	RDN            = schema.RDN
	AttributeValue = schema.AttributeValue
	Attribute      = schema.Attribute
)

// ErrDN is in the chain of every error of ParseDN.
var ErrDN = schema.ErrDN

// ParseDN reads a DN string (RFC 4514 §3), at most 4,096 bytes and 64 levels.
func ParseDN(s string) (DN, error) { return schema.ParseDN(s) }

// MustParseDN is ParseDN for constants in the program's own text; it panics.
func MustParseDN(s string) DN { return schema.MustParseDN(s) }
