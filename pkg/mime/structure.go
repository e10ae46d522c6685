package mime

import "strconv"

// AppendBody appends the message's BODY: the structure without extension data
// (RFC 9051 §7.5.2).
func (m *Message) AppendBody(dst []byte) []byte { return m.appendPart(dst, &m.Root, false) }

// AppendBodyStructure appends the message's BODYSTRUCTURE, with extension data.
func (m *Message) AppendBodyStructure(dst []byte) []byte { return m.appendPart(dst, &m.Root, true) }

func (m *Message) appendPart(dst []byte, p *Part, extended bool) []byte {
	dst = append(dst, '(')
	if p.IsMultipart() {
		for i := range p.Children {
			dst = m.appendPart(dst, &p.Children[i], extended)
		}
		dst = append(dst, ' ')
		dst = appendString(dst, p.Subtype)
		if extended {
			dst = append(dst, ' ')
			dst = appendParams(dst, p.Params)
			dst = appendExtension(dst, p)
		}
		return append(dst, ')')
	}
	dst = m.appendSingle(dst, p, extended)
	if extended {
		dst = append(dst, ' ')
		dst = appendNString(dst, p.MD5)
		dst = appendExtension(dst, p)
	}
	return append(dst, ')')
}

// appendSingle appends the fields of body-type-basic, -text or -msg.
func (m *Message) appendSingle(dst []byte, p *Part, extended bool) []byte {
	dst = appendString(dst, p.Type)
	dst = append(dst, ' ')
	dst = appendString(dst, p.Subtype)
	dst = append(dst, ' ')
	dst = appendParams(dst, withCharset(p))
	dst = append(dst, ' ')
	dst = appendNString(dst, p.ID)
	dst = append(dst, ' ')
	dst = appendNString(dst, p.Description)
	dst = append(dst, ' ')
	dst = appendString(dst, p.Encoding)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, p.End-p.BodyOffset, 10)
	if p.Message != nil {
		dst = append(dst, ' ')
		dst = p.Message.envelope.append(dst, m.addresses)
		dst = append(dst, ' ')
		dst = m.appendPart(dst, &p.Message.Root, extended)
	}
	if p.Message != nil || p.IsText() {
		dst = append(dst, ' ')
		dst = strconv.AppendInt(dst, p.Lines, 10)
	}
	return dst
}

// withCharset says the default charset of a text aloud (RFC 2046 §4.1.2).
func withCharset(p *Part) []Param {
	if !p.IsText() {
		return p.Params
	}
	for _, param := range p.Params {
		if equalFold(param.Name, "charset") {
			return p.Params
		}
	}
	return append(p.Params[:len(p.Params):len(p.Params)], Param{"charset", "us-ascii"})
}

func appendParams(dst []byte, params []Param) []byte {
	if len(params) == 0 {
		return append(dst, "NIL"...)
	}
	for i, p := range params {
		if i == 0 {
			dst = append(dst, '(')
		} else {
			dst = append(dst, ' ')
		}
		dst = appendString(dst, p.Name)
		dst = append(dst, ' ')
		dst = appendString(dst, p.Value)
	}
	return append(dst, ')')
}

// appendExtension appends disposition, language and location.
func appendExtension(dst []byte, p *Part) []byte {
	dst = append(dst, ' ')
	if p.Disposition == "" {
		dst = append(dst, "NIL"...)
	} else {
		dst = append(dst, '(')
		dst = appendString(dst, p.Disposition)
		dst = append(dst, ' ')
		dst = appendParams(dst, p.DispositionParams)
		dst = append(dst, ')')
	}
	dst = append(dst, ' ')
	switch tags := languages(p.Language, maxLanguages); len(tags) {
	case 0:
		dst = append(dst, "NIL"...)
	case 1:
		dst = appendString(dst, tags[0])
	default:
		for i, tag := range tags {
			if i == 0 {
				dst = append(dst, '(')
			} else {
				dst = append(dst, ' ')
			}
			dst = appendString(dst, tag)
		}
		dst = append(dst, ')')
	}
	dst = append(dst, ' ')
	return appendNString(dst, p.Location)
}

// maxLanguages bounds the tags of one part's Content-Language.
const maxLanguages = 100
