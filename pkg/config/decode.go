package config

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// fault is one thing that is wrong with a file, and where.
type fault struct {
	path         string // of the key, such as mta.queue.retry[1]
	line, column int
	text         string
}

// place is where the value of a key stands in a file.
type place struct{ line, column int }

// decoder puts a document into Go values. It is strict, as the library is, but
// goes on after a fault: what is wrong keeps its default.
type decoder struct {
	faults  []fault
	places  map[string]place
	anchors map[string]ast.Node
	merges  int
}

// maxDepth bounds aliases within aliases, maxMerges the sections that they merge.
const (
	maxDepth  = 50
	maxMerges = 1000
)

func newDecoder() *decoder {
	return &decoder{places: map[string]place{}, anchors: map[string]ast.Node{}}
}

func (d *decoder) bad(path string, t *token.Token, format string, args ...any) {
	f := fault{path: path, line: 1, column: 1, text: fmt.Sprintf(format, args...)}
	if t != nil && t.Position != nil {
		f.line, f.column = t.Position.Line, t.Position.Column
	}
	d.faults = append(d.faults, f)
}

// wrong is bad for a value of a key.
func (d *decoder) wrong(path string, n ast.Node, format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	if path == "" {
		what = "the file " + what
	} else {
		what = path + ": " + what
	}
	d.bad(path, first(n), "%s", what)
}

// first is the token where a node begins.
func first(n ast.Node) *token.Token {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return n.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		return n.Key.GetToken()
	}
	return n.GetToken()
}

// value decodes a node into v, whose default it holds.
func (d *decoder) value(path string, n ast.Node, v reflect.Value, depth int) {
	if depth > maxDepth {
		d.wrong(path, n, "too many levels")
		return
	}
	t := first(n)
	if _, ok := d.places[path]; !ok && t != nil {
		d.places[path] = place{t.Position.Line, t.Position.Column}
	}
	switch n := n.(type) {
	case *ast.AnchorNode:
		d.anchors[n.Name.GetToken().Value] = n.Value
		d.value(path, n.Value, v, depth+1)
		return
	case *ast.AliasNode:
		target, ok := d.anchors[n.Value.GetToken().Value]
		if !ok {
			d.wrong(path, n, "no anchor %q stands above", n.Value.GetToken().Value)
			return
		}
		d.value(path, target, v, depth+1)
		return
	case *ast.TagNode:
		d.value(path, n.Value, v, depth+1)
		return
	}
	if d.custom(path, n, v) {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.fields(path, n, v, depth)
	case reflect.Map:
		d.entries(path, n, v, depth)
	case reflect.Slice:
		d.list(path, n, v, depth)
	default:
		d.scalar(path, n, v)
	}
}

// custom decodes into a type that reads its own text, and reports whether v is
// of one.
func (d *decoder) custom(path string, n ast.Node, v reflect.Value) bool {
	switch to := v.Addr().Interface().(type) {
	case *netip.Prefix:
		s, _ := text(n)
		var err error
		if *to, err = netip.ParsePrefix(s); err != nil {
			d.wrong(path, n, "is %s and not a network, such as 192.0.2.0/24", kindOf(n))
		}
	case yaml.NodeUnmarshaler:
		if _, ok := n.(ast.ScalarNode); !ok || n.Type() == ast.NullType {
			d.wrong(path, n, "is %s and not a single value", kindOf(n))
		} else if err := to.UnmarshalYAML(n); err != nil {
			d.wrong(path, n, "%v", err)
		}
	default:
		return false
	}
	return true
}

// members are the pairs of a mapping, those of merged ones first. An empty
// section has none.
func (d *decoder) members(path string, n ast.Node, depth int) []*ast.MappingValueNode {
	var own []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		own = n.Values
	case *ast.MappingValueNode:
		own = []*ast.MappingValueNode{n}
	case *ast.NullNode:
		return nil
	case *ast.AliasNode:
		target, ok := d.anchors[n.Value.GetToken().Value]
		if d.merges++; d.merges > maxMerges || depth > maxDepth {
			return nil
		} else if ok {
			return d.members(path, target, depth+1)
		}
		d.wrong(path, n, "no anchor %q stands above", n.Value.GetToken().Value)
		return nil
	default:
		d.wrong(path, n, "is %s and not a section of keys", kindOf(n))
		return nil
	}
	var merged, rest []*ast.MappingValueNode
	seen := map[string]bool{}
	for _, m := range own {
		key := m.Key.GetToken().Value
		if m.Key.IsMergeKey() {
			merged = append(merged, d.members(path, m.Value, depth+1)...)
			continue
		}
		if seen[key] {
			d.bad(join(path, key), m.Key.GetToken(), "the key %q stands twice", key)
			continue
		}
		seen[key] = true
		rest = append(rest, m)
	}
	merged = slices.DeleteFunc(merged, func(m *ast.MappingValueNode) bool { return seen[m.Key.GetToken().Value] })
	return append(merged, rest...)
}

func join(path, key string) string { return strings.TrimPrefix(path+"."+key, ".") }

func (d *decoder) fields(path string, n ast.Node, v reflect.Value, depth int) {
	byName := map[string]int{}
	for i := range v.NumField() {
		if name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ","); name != "" {
			byName[name] = i
		}
	}
	for _, m := range d.members(path, n, depth) {
		key := m.Key.GetToken().Value
		if i, ok := byName[key]; ok {
			d.value(join(path, key), m.Value, v.Field(i), depth+1)
		} else {
			d.bad(join(path, key), m.Key.GetToken(), "unknown field %q", key)
		}
	}
}

func (d *decoder) entries(path string, n ast.Node, v reflect.Value, depth int) {
	members := d.members(path, n, depth)
	out := reflect.MakeMapWithSize(v.Type(), len(members))
	for _, m := range members {
		e := reflect.New(v.Type().Elem()).Elem()
		d.value(join(path, m.Key.GetToken().Value), m.Value, e, depth+1)
		out.SetMapIndex(reflect.ValueOf(m.Key.GetToken().Value).Convert(v.Type().Key()), e)
	}
	v.Set(out)
}

func (d *decoder) list(path string, n ast.Node, v reflect.Value, depth int) {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		d.wrong(path, n, "is %s and not a list; write [a, b], or [] for none", kindOf(n))
		return
	}
	out := reflect.MakeSlice(v.Type(), len(s.Values), len(s.Values))
	for i, e := range s.Values {
		d.value(fmt.Sprintf("%s[%d]", path, i), e, out.Index(i), depth+1)
	}
	v.Set(out)
}

func (d *decoder) scalar(path string, n ast.Node, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if s, ok := text(n); ok {
			v.SetString(s)
		} else {
			d.wrong(path, n, "is %s and not text; put it in quotes, or leave the key out", kindOf(n))
		}
	case reflect.Bool:
		if b, ok := n.(*ast.BoolNode); ok {
			v.SetBool(b.Value)
		} else {
			d.wrong(path, n, "is %s and neither true nor false", kindOf(n))
		}
	case reflect.Int, reflect.Int64:
		if i, ok := integer(n); ok && !v.OverflowInt(i) {
			v.SetInt(i)
		} else {
			d.wrong(path, n, "is %s and not a whole number", kindOf(n))
		}
	default: // a type of ours that nobody taught the decoder
		d.wrong(path, n, "cannot be read into %s", v.Type())
	}
}

func text(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	}
	return "", false
}

func integer(n ast.Node) (int64, bool) {
	if i, ok := n.(*ast.IntegerNode); ok {
		switch x := i.Value.(type) {
		case int64:
			return x, true
		case uint64:
			return int64(x), x < 1<<63
		}
	}
	return 0, false
}

// kindOf says what a value is.
func kindOf(n ast.Node) string {
	switch n := n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a section of keys"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "empty"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "the number " + n.GetToken().Value
	case *ast.BoolNode:
		return "the word " + n.GetToken().Value
	}
	if s, ok := text(n); ok {
		return fmt.Sprintf("%q", s)
	}
	return "something else"
}

// syntax is the fault of text that is no YAML.
func syntax(err error) fault {
	var y yaml.Error
	if errors.As(err, &y) && y.GetToken() != nil {
		p := y.GetToken().Position
		return fault{line: p.Line, column: p.Column, text: y.GetMessage()}
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return fault{line: 1, column: 1, text: line}
}

// joined is one error of all faults, a line for each, in the file's order; nil
// if there are none.
func joined(name string, faults []fault) error {
	slices.SortFunc(faults, func(a, b fault) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column), cmp.Compare(a.text, b.text))
	})
	var errs []error
	for _, f := range faults {
		errs = append(errs, fmt.Errorf("%s:%d:%d: %s", name, f.line, f.column, f.text))
	}
	return errors.Join(errs...)
}
