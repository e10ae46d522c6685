package config

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Load reads the file at path over the defaults. Its error holds every fault,
// one a line, each with file, line and column.
func Load(path string) (Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("reading configuration: %w", err)
	}
	return Parse(path, b)
}

// Parse is Load for bytes that were read; name stands in the errors.
func Parse(name string, b []byte) (Config, error) {
	c := Default()
	file, err := parser.ParseBytes(b, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return Config{}, joined(name, []fault{syntax(err)})
	}
	d := newDecoder()
	for i, doc := range file.Docs {
		if i > 0 {
			d.bad("", doc.GetToken(), "a second document; the file is one")
			break
		}
		if doc.Body != nil && doc.Body.Type() != ast.CommentType {
			d.value("", doc.Body, reflect.ValueOf(&c).Elem(), 0)
		}
	}
	if c.Hostname == "" {
		c.Hostname, _ = os.Hostname()
	}
	return c, joined(name, append(d.faults, c.validate(d)...))
}

// at returns where a key stands, or the nearest key above it that the file has,
// and whether it is the key itself.
func (d *decoder) at(path string) (p place, itself bool) {
	for above := path; above != ""; above = above[:max(strings.LastIndexAny(above, ".["), 0)] {
		if p, ok := d.places[above]; ok {
			return p, above == path
		}
	}
	return place{1, 1}, false
}

// follows reports whether what is wrong with a key comes of a fault that the
// decoder found: in the key, or, if the key is missing, beside it.
func (d *decoder) follows(path string, itself bool) bool {
	beside := path[:max(strings.LastIndexAny(path, ".["), 0)]
	return slices.ContainsFunc(d.faults, func(f fault) bool {
		return within(f.path, path) || within(path, f.path) || !itself && within(f.path, beside)
	})
}

// within reports whether a key is another, or below it.
func within(path, above string) bool {
	rest, ok := strings.CutPrefix(path, above)
	return ok && above != "" && (rest == "" || rest[0] == '.' || rest[0] == '[')
}
