package ldapwire

// Context tags of optional fields.
const (
	tagControls          Tag = 0xa0
	tagReferral          Tag = 0xa3
	tagServerCredentials Tag = 0x87
	tagNewSuperior       Tag = 0x80
	tagRequestName       Tag = 0x80
	tagRequestValue      Tag = 0x81
	tagResponseName      Tag = 0x8a
	tagResponseValue     Tag = 0x8b
)

// Decode reads the bytes of one LDAPMessage, as ReadPDU returns them. The
// message consists of parts of pdu. Fields behind those we know are ignored
// (RFC 4511 §4, extensibility). Errors are ErrSyntax, or ErrTooComplex, which
// comes with the message's ID and the type of its Op.
func Decode(pdu string) (Message, error) {
	d := decoder{}
	outer := reader{&d, pdu}
	in := outer.group(tagSequence)
	if outer.more() {
		d.fail("bytes behind the message")
	}
	m := Message{ID: in.integer(tagInteger, MaxMessageID)}
	m.Op = in.op()
	if in.peek() == tagControls {
		m.Controls = in.controls()
	}
	return m, d.err
}

// op reads the protocolOp.
func (r *reader) op() Op {
	tag, content := r.next()
	in := reader{r.d, content}
	switch tag {
	case TagBindRequest:
		return in.bindRequest()
	case TagBindResponse:
		o := &BindResponse{Result: in.result()}
		o.ServerCredentials, o.HasServerCredentials = in.optional(tagServerCredentials)
		return o
	case TagUnbindRequest:
		return &UnbindRequest{}
	case TagSearchRequest:
		return in.searchRequest()
	case TagSearchEntry:
		return &SearchEntry{DN: in.octets(tagOctetString), Attributes: in.attributes()}
	case TagSearchReference:
		return &SearchReference{URIs: in.strings()}
	case TagModifyRequest:
		return &ModifyRequest{DN: in.octets(tagOctetString), Changes: in.changes()}
	case TagAddRequest:
		return &AddRequest{DN: in.octets(tagOctetString), Attributes: in.attributes()}
	case TagDelRequest:
		return &DelRequest{DN: content}
	case TagModifyDNRequest:
		return in.modifyDNRequest()
	case TagCompareRequest:
		return in.compareRequest()
	case TagAbandonRequest:
		return &AbandonRequest{ID: r.d.integer(content, MaxMessageID)}
	case TagSearchDone, TagModifyResponse, TagAddResponse, TagDelResponse, TagModifyDNResponse, TagCompareResponse:
		return &Done{Kind: tag, Result: in.result()}
	}
	return in.extension(tag)
}

// extension reads the extended operation and its responses.
func (r *reader) extension(tag Tag) Op {
	switch tag {
	case TagExtendedRequest:
		o := &ExtendedRequest{OID: r.octets(tagRequestName)}
		o.Value, o.HasValue = r.optional(tagRequestValue)
		return o
	case TagExtendedResponse:
		o := &ExtendedResponse{Result: r.result()}
		o.OID, _ = r.optional(tagResponseName)
		o.Value, o.HasValue = r.optional(tagResponseValue)
		return o
	case TagIntermediateResponse:
		o := &IntermediateResponse{}
		o.OID, _ = r.optional(tagRequestName)
		o.Value, o.HasValue = r.optional(tagRequestValue)
		return o
	}
	r.d.fail("unknown operation %#02x", byte(tag))
	return nil
}

func (r *reader) result() Result {
	res := Result{
		Code:      r.integer(tagEnumerated, MaxMessageID),
		MatchedDN: r.octets(tagOctetString),
		Text:      r.octets(tagOctetString),
	}
	if r.peek() == tagReferral {
		uris := r.group(tagReferral)
		res.Referral = uris.strings()
	}
	return res
}

func (r *reader) bindRequest() *BindRequest {
	o := &BindRequest{
		Version: r.integer(tagInteger, 127),
		Name:    r.octets(tagOctetString),
	}
	tag, content := r.next()
	o.Auth = Auth(tag)
	if o.Auth != AuthSASL {
		o.Password = content
		return o
	}
	in := reader{r.d, content}
	o.Mechanism = in.octets(tagOctetString)
	o.Credentials, o.HasCredentials = in.optional(tagOctetString)
	return o
}

func (r *reader) searchRequest() *SearchRequest {
	o := &SearchRequest{
		Base:         r.octets(tagOctetString),
		Scope:        r.integer(tagEnumerated, 255),
		DerefAliases: r.integer(tagEnumerated, 255),
		SizeLimit:    r.integer(tagInteger, MaxMessageID),
		TimeLimit:    r.integer(tagInteger, MaxMessageID),
		TypesOnly:    r.boolean(tagBoolean),
	}
	r.filter(&o.Filter, 1)
	list := r.group(tagSequence)
	o.Attributes = list.strings()
	return o
}

func (r *reader) attributes() []Attribute {
	list := r.group(tagSequence)
	n := list.count()
	if n == 0 {
		return nil
	}
	attrs := make([]Attribute, 0, n)
	for list.more() {
		attrs = append(attrs, list.attribute())
	}
	return attrs
}

func (r *reader) attribute() Attribute {
	in := r.group(tagSequence)
	name := in.octets(tagOctetString)
	values := in.group(tagSet)
	return Attribute{Name: name, Values: values.strings()}
}

func (r *reader) changes() []Change {
	list := r.group(tagSequence)
	n := list.count()
	if n == 0 {
		return nil
	}
	changes := make([]Change, 0, n)
	for list.more() {
		in := list.group(tagSequence)
		kind := in.integer(tagEnumerated, 255)
		changes = append(changes, Change{Kind: kind, Attribute: in.attribute()})
	}
	return changes
}

func (r *reader) modifyDNRequest() *ModifyDNRequest {
	o := &ModifyDNRequest{
		DN:           r.octets(tagOctetString),
		NewRDN:       r.octets(tagOctetString),
		DeleteOldRDN: r.boolean(tagBoolean),
	}
	o.NewSuperior, o.HasNewSuperior = r.optional(tagNewSuperior)
	return o
}

func (r *reader) compareRequest() *CompareRequest {
	dn := r.octets(tagOctetString)
	ava := r.group(tagSequence)
	return &CompareRequest{
		DN:        dn,
		Attribute: ava.octets(tagOctetString),
		Value:     ava.octets(tagOctetString),
	}
}

func (r *reader) controls() []Control {
	list := r.group(tagControls)
	n := list.count()
	if n > maxControls {
		r.d.fail("more than %d controls", maxControls)
	}
	var controls []Control
	for list.more() {
		in := list.group(tagSequence)
		c := Control{OID: in.octets(tagOctetString)}
		if in.peek() == tagBoolean {
			c.Critical = in.boolean(tagBoolean)
		}
		c.Value, c.HasValue = in.optional(tagOctetString)
		controls = append(controls, c)
	}
	return controls
}
