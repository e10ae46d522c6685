package ldapwire

import (
	"reflect"
	"testing"
)

// TestControlsComeBack: what is written is read as it was.
func TestControlsComeBack(t *testing.T) {
	keys := []SortKey{{Attribute: "sn"}, {Attribute: "cn", Rule: "caseIgnoreOrderingMatch", Reverse: true}}
	if got, err := DecodeSort(SortControl(keys, true).Value); err != nil || !reflect.DeepEqual(got, keys) {
		t.Errorf("%v %v", got, err)
	}
	f := Filter{Kind: And, Children: []Filter{{Kind: Equality, Attribute: "a", Value: "b"}, {Kind: Present, Attribute: "c"}}}
	if got, err := DecodeFilter(AssertionControl(f).Value); err != nil || !reflect.DeepEqual(got, f) {
		t.Errorf("%v %v", got, err)
	}
	if got, err := DecodeSelection(SelectionControl(OIDPreRead, []string{"a", "+"}).Value); err != nil || !reflect.DeepEqual(got, []string{"a", "+"}) {
		t.Errorf("%v %v", got, err)
	}
	e := SearchEntry{DN: "o=x", Attributes: []Attribute{{Name: "o", Values: []string{"x", "y"}}}}
	if got, err := DecodeEntry(EntryControl(OIDPostRead, &e).Value); err != nil || !reflect.DeepEqual(got, e) {
		t.Errorf("%v %v", got, err)
	}
	if id, err := DecodeCancel(CancelRequest(77).Value); err != nil || id != 77 {
		t.Errorf("%d %v", id, err)
	}
}

// FuzzControls: no value of a control or an extended request does harm.
func FuzzControls(f *testing.F) {
	f.Add(SortControl([]SortKey{{Attribute: "sn", Rule: "2.5.13.3", Reverse: true}}, true).Value)
	f.Add(AssertionControl(Filter{Kind: Not, Children: []Filter{{Kind: Present, Attribute: "c"}}}).Value)
	f.Add(SelectionControl(OIDPreRead, []string{"a"}).Value)
	f.Add(CancelRequest(1).Value)
	f.Add(Paged{Size: 3, Cookie: "x"}.Control(true).Value)
	f.Add(string(PasswordModify{User: "u", Old: "o", New: "n"}.Append(nil)))
	f.Fuzz(func(t *testing.T, value string) {
		if keys, err := DecodeSort(value); err == nil {
			if again, err := DecodeSort(SortControl(keys, false).Value); err != nil || !reflect.DeepEqual(again, keys) {
				t.Errorf("%v came back as %v, %v", keys, again, err)
			}
		}
		if filter, err := DecodeFilter(value); err == nil {
			if _, err := DecodeFilter(AssertionControl(filter).Value); err != nil {
				t.Errorf("%s: %v", filter, err)
			}
		}
		_, _ = DecodeSelection(value)
		_, _ = DecodeEntry(value)
		_, _ = DecodeCancel(value)
		_, _ = DecodePaged(value)
		_, _ = DecodePasswordModify(value)
	})
}
