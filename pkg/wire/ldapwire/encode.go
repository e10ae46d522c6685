package ldapwire

import "iter"

// AppendMessage appends m to dst. Its Op is not nil.
func AppendMessage(dst []byte, m Message) []byte {
	dst, outer := begin(dst, tagSequence)
	dst = appendInteger(dst, tagInteger, m.ID)
	dst = m.Op.appendOp(dst)
	if len(m.Controls) > 0 {
		dst = appendControls(dst, m.Controls)
	}
	return end(dst, outer)
}

// AppendEntry appends a SearchResultEntry without the detour of a Message:
// attributes are written as they come.
func AppendEntry(dst []byte, id int, dn string, attributes iter.Seq2[string, []string]) []byte {
	dst, outer := begin(dst, tagSequence)
	dst = appendInteger(dst, tagInteger, id)
	dst, op := begin(dst, TagSearchEntry)
	dst = appendOctets(dst, tagOctetString, dn)
	dst, list := begin(dst, tagSequence)
	for name, values := range attributes {
		dst = appendAttribute(dst, name, values)
	}
	return end(end(end(dst, list), op), outer)
}

func appendAttribute(dst []byte, name string, values []string) []byte {
	dst, mark := begin(dst, tagSequence)
	dst = appendOctets(dst, tagOctetString, name)
	dst, set := begin(dst, tagSet)
	dst = appendStrings(dst, values)
	return end(end(dst, set), mark)
}

func appendAttributes(dst []byte, list []Attribute) []byte {
	dst, mark := begin(dst, tagSequence)
	for _, a := range list {
		dst = appendAttribute(dst, a.Name, a.Values)
	}
	return end(dst, mark)
}

func appendControls(dst []byte, controls []Control) []byte {
	dst, list := begin(dst, tagControls)
	for _, c := range controls {
		var mark int
		dst, mark = begin(dst, tagSequence)
		dst = appendOctets(dst, tagOctetString, c.OID)
		if c.Critical {
			dst = appendBoolean(dst, tagBoolean, true)
		}
		dst = appendOptional(dst, tagOctetString, c.Value, c.HasValue)
		dst = end(dst, mark)
	}
	return end(dst, list)
}

func appendOptional(dst []byte, tag Tag, s string, present bool) []byte {
	if !present {
		return dst
	}
	return appendOctets(dst, tag, s)
}

func (res *Result) append(dst []byte) []byte {
	dst = appendInteger(dst, tagEnumerated, res.Code)
	dst = appendOctets(dst, tagOctetString, res.MatchedDN)
	dst = appendOctets(dst, tagOctetString, res.Text)
	if len(res.Referral) > 0 {
		var mark int
		dst, mark = begin(dst, tagReferral)
		dst = end(appendStrings(dst, res.Referral), mark)
	}
	return dst
}

func (o *BindRequest) appendOp(dst []byte) []byte {
	dst, mark := begin(dst, TagBindRequest)
	dst = appendInteger(dst, tagInteger, o.Version)
	dst = appendOctets(dst, tagOctetString, o.Name)
	if o.Auth == AuthSASL {
		var sasl int
		dst, sasl = begin(dst, Tag(AuthSASL))
		dst = appendOctets(dst, tagOctetString, o.Mechanism)
		dst = appendOptional(dst, tagOctetString, o.Credentials, o.HasCredentials)
		dst = end(dst, sasl)
	} else {
		dst = appendOctets(dst, Tag(o.Auth), o.Password)
	}
	return end(dst, mark)
}

func (o *BindResponse) appendOp(dst []byte) []byte {
	dst, mark := begin(dst, TagBindResponse)
	dst = o.Result.append(dst)
	dst = appendOptional(dst, tagServerCredentials, o.ServerCredentials, o.HasServerCredentials)
	return end(dst, mark)
}

func (*UnbindRequest) appendOp(dst []byte) []byte { return append(dst, byte(TagUnbindRequest), 0) }

func (o *SearchRequest) appendOp(dst []byte) []byte {
	dst, mark := begin(dst, TagSearchRequest)
	dst = appendOctets(dst, tagOctetString, o.Base)
	dst = appendInteger(dst, tagEnumerated, o.Scope)
	dst = appendInteger(dst, tagEnumerated, o.DerefAliases)
	dst = appendInteger(dst, tagInteger, o.SizeLimit)
	dst = appendInteger(dst, tagInteger, o.TimeLimit)
	dst = appendBoolean(dst, tagBoolean, o.TypesOnly)
	dst = appendFilter(dst, &o.Filter)
	dst, list := begin(dst, tagSequence)
	return end(end(appendStrings(dst, o.Attributes), list), mark)
}

func (o *SearchEntry) appendOp(dst []byte) []byte {
	dst, mark := begin(dst, TagSearchEntry)
	dst = appendOctets(dst, tagOctetString, o.DN)
	return end(appendAttributes(dst, o.Attributes), mark)
}

func (o *SearchReference) appendOp(dst []byte) []byte {
	dst, mark := begin(dst, TagSearchReference)
	return end(appendStrings(dst, o.URIs), mark)
}

func (o *Done) appendOp(dst []byte) []byte {
	dst, mark := begin(dst, o.Kind)
	return end(o.Result.append(dst), mark)
}

func (o *ModifyRequest) appendOp(dst []byte) []byte {
	dst, mark := begin(dst, TagModifyRequest)
	dst = appendOctets(dst, tagOctetString, o.DN)
	dst, list := begin(dst, tagSequence)
	for _, c := range o.Changes {
		var change int
		dst, change = begin(dst, tagSequence)
		dst = appendInteger(dst, tagEnumerated, c.Kind)
		dst = end(appendAttribute(dst, c.Name, c.Values), change)
	}
	return end(end(dst, list), mark)
}

func (o *AddRequest) appendOp(dst []byte) []byte {
	dst, mark := begin(dst, TagAddRequest)
	dst = appendOctets(dst, tagOctetString, o.DN)
	return end(appendAttributes(dst, o.Attributes), mark)
}

func (o *DelRequest) appendOp(dst []byte) []byte { return appendOctets(dst, TagDelRequest, o.DN) }

func (o *ModifyDNRequest) appendOp(dst []byte) []byte {
	dst, mark := begin(dst, TagModifyDNRequest)
	dst = appendOctets(dst, tagOctetString, o.DN)
	dst = appendOctets(dst, tagOctetString, o.NewRDN)
	dst = appendBoolean(dst, tagBoolean, o.DeleteOldRDN)
	dst = appendOptional(dst, tagNewSuperior, o.NewSuperior, o.HasNewSuperior)
	return end(dst, mark)
}

func (o *CompareRequest) appendOp(dst []byte) []byte {
	dst, mark := begin(dst, TagCompareRequest)
	dst = appendOctets(dst, tagOctetString, o.DN)
	dst, ava := begin(dst, tagSequence)
	dst = appendOctets(dst, tagOctetString, o.Attribute)
	dst = appendOctets(dst, tagOctetString, o.Value)
	return end(end(dst, ava), mark)
}

func (o *AbandonRequest) appendOp(dst []byte) []byte {
	return appendInteger(dst, TagAbandonRequest, o.ID)
}

func (o *ExtendedRequest) appendOp(dst []byte) []byte {
	dst, mark := begin(dst, TagExtendedRequest)
	dst = appendOctets(dst, tagRequestName, o.OID)
	dst = appendOptional(dst, tagRequestValue, o.Value, o.HasValue)
	return end(dst, mark)
}

func (o *ExtendedResponse) appendOp(dst []byte) []byte {
	dst, mark := begin(dst, TagExtendedResponse)
	dst = o.Result.append(dst)
	dst = appendOptional(dst, tagResponseName, o.OID, o.OID != "")
	dst = appendOptional(dst, tagResponseValue, o.Value, o.HasValue)
	return end(dst, mark)
}

func (o *IntermediateResponse) appendOp(dst []byte) []byte {
	dst, mark := begin(dst, TagIntermediateResponse)
	dst = appendOptional(dst, tagRequestName, o.OID, o.OID != "")
	dst = appendOptional(dst, tagRequestValue, o.Value, o.HasValue)
	return end(dst, mark)
}
