package ldapserver

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"strings"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/wire/ldapwire"
)

// sortable checks the keys of a sort control (RFC 2891): attributes that are
// defined and can be compared, by their own order.
func (c *session) sortable(with controls) (ldapwire.Control, error) {
	for _, k := range with.sort {
		code := directory.Success
		if c.srv.o.Schema == nil {
			code = directory.UnwillingToPerform
		} else if t := c.srv.o.Schema.Attribute(k.Attribute); t == nil || isPassword(k.Attribute) {
			code = directory.NoSuchAttribute
		} else if k.Rule != "" && c.srv.o.Schema.Rule(k.Rule) == nil || !t.Comparable() {
			code = directory.InappropriateMatching
		}
		if code == directory.Success {
			continue
		}
		answer := ldapwire.SortResult(int(code), k.Attribute)
		if with.mustSort {
			return answer, refusal(directory.UnavailableCritExtension, "cannot sort so")
		}
		return answer, nil
	}
	return ldapwire.SortResult(int(directory.Success), ""), nil
}

// withKeys is the query that returns the sort keys, too, and what takes them
// out of an entry again.
func withKeys(q directory.Query, keys []ldapwire.SortKey) (directory.Query, func(directory.Entry) directory.Entry) {
	var extra []string
	all := len(q.Attributes) == 0 || slices.Contains(q.Attributes, "*")
	for _, k := range keys {
		if !all && !slices.ContainsFunc(q.Attributes, func(n string) bool { return strings.EqualFold(n, k.Attribute) }) {
			extra = append(extra, k.Attribute)
		}
	}
	typesOnly := q.TypesOnly
	q.Attributes, q.TypesOnly = append(slices.Clone(q.Attributes), extra...), false
	return q, func(e directory.Entry) directory.Entry {
		e.Attributes = slices.DeleteFunc(e.Attributes, func(a directory.Attribute) bool {
			return slices.ContainsFunc(extra, func(n string) bool { return strings.EqualFold(n, a.Name) })
		})
		if typesOnly {
			for i := range e.Attributes {
				e.Attributes[i].Values = nil
			}
		}
		return e
	}
}

// results are the visible entries of a search, in the order that was asked for.
func (c *session) results(ctx context.Context, q directory.Query, with controls, size int) iter.Seq2[directory.Entry, error] {
	if with.sort == nil {
		return c.visible(ctx, c.found(ctx, q, with), q, with.as)
	}
	q, without := withKeys(q, with.sort)
	return c.sorted(c.visible(ctx, c.found(ctx, q, with), q, with.as), with, size, without)
}

// sorted collects up to size entries and yields them in order. Those without
// the attribute, or whose attribute the asker may not read, come last.
func (c *session) sorted(entries iter.Seq2[directory.Entry, error], with controls, size int, without func(directory.Entry) directory.Entry) iter.Seq2[directory.Entry, error] {
	return func(yield func(directory.Entry, error) bool) {
		type keyed struct {
			entry directory.Entry
			keys  []string
		}
		var all []keyed
		var end error
		for e, err := range entries {
			if end = err; err != nil {
				break
			}
			if len(all) == size {
				end = refusal(directory.SizeLimitExceeded, "size limit exceeded")
				break
			}
			k := keyed{entry: e}
			for _, key := range with.sort {
				k.keys = append(k.keys, c.sortKey(e, key, with.as))
			}
			all = append(all, k)
		}
		if r, ok := errors.AsType[*directory.ResultError](end); end != nil && (!ok || r.Code != directory.SizeLimitExceeded && r.Code != directory.TimeLimitExceeded) {
			yield(directory.Entry{}, end)
			return
		}
		slices.SortStableFunc(all, func(a, b keyed) int {
			for i, key := range with.sort {
				n := cmp.Compare(a.keys[i], b.keys[i])
				if key.Reverse {
					n = -n
				}
				if n != 0 {
					return n
				}
			}
			return 0
		})
		for _, k := range all {
			if !yield(without(k.entry), nil) {
				return
			}
		}
		if end != nil {
			yield(directory.Entry{}, end)
		}
	}
}

// sortKey is the least value of the attribute in its normal form.
func (c *session) sortKey(e directory.Entry, key ldapwire.SortKey, as asker) string {
	const none = "\U0010ffff" // RFC 2891 §2.2: larger than all others
	if c.srv.o.Schema == nil {
		return none
	}
	t := c.srv.o.Schema.Attribute(key.Attribute)
	if t == nil || !as.mayRead(c.srv, e.DN, t.Name()) {
		return none
	}
	least := none
	for _, v := range e.Values(t.Name()) {
		n := c.srv.o.Schema.Normal(t, v)
		if r := c.srv.o.Schema.Rule(key.Rule); r != nil {
			n = r.Normal(c.srv.o.Schema, v)
		}
		least = min(least, n)
	}
	return least
}
