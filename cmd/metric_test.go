package cmd

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// scriptMetric is "metric ROLE NAME{label="value",...} CMP N": the sum of all
// series with these labels, as the role's process shows it, compares so with N
// now or within ten seconds. A label may be matched by a regexp, with =~.
func scriptMetric(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf(`usage: metric ROLE NAME{label="value",...} ==|<=|>= N`)
	}
	want, err := strconv.ParseFloat(args[3], 64)
	ts.Check(err)
	name, wanted, err := parseQuestion(args[1])
	ts.Check(err)
	address := topologyOf(ts).doors["admin-"+args[0]]
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		got, err := sumSeries(address, name, wanted)
		ts.Check(err)
		if compares(got, args[2], want) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s of %s is %v, want %s %v", args[1], args[0], got, args[2], want)
		}
	}
}

func compares(got float64, cmp string, want float64) bool {
	switch cmp {
	case "==":
		return got == want
	case "<=":
		return got <= want
	case ">=":
		return got >= want
	}
	return false
}

// labelForm is one label of a series, or what it must be in a question.
var labelForm = regexp.MustCompile(`(\w+)(=~?)"([^"]*)"`)

// parseQuestion reads NAME{label="value",...}.
func parseQuestion(s string) (name string, wanted map[string]*regexp.Regexp, err error) {
	name, rest, _ := strings.Cut(s, "{")
	wanted = map[string]*regexp.Regexp{}
	for _, m := range labelForm.FindAllStringSubmatch(rest, -1) {
		pattern := m[3]
		if m[2] == "=" {
			pattern = regexp.QuoteMeta(pattern)
		}
		if wanted[m[1]], err = regexp.Compile("^(?:" + pattern + ")$"); err != nil {
			return "", nil, err
		}
	}
	return name, wanted, nil
}

// sumSeries adds up the series of a /metrics page (Prometheus text format).
func sumSeries(address, name string, wanted map[string]*regexp.Regexp) (sum float64, err error) {
	r, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		return 0, err
	}
	defer r.Body.Close()
	page, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("reading metrics: %s, %w", r.Status, err)
	}
	for line := range strings.Lines(string(page)) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), name)
		if !ok || !strings.HasPrefix(rest, "{") && !strings.HasPrefix(rest, " ") {
			continue
		}
		end := strings.LastIndexByte(rest, ' ')
		labels := map[string]string{}
		for _, m := range labelForm.FindAllStringSubmatch(rest[:end], -1) {
			labels[m[1]] = m[3]
		}
		matches := true
		for label, pattern := range wanted {
			matches = matches && pattern.MatchString(labels[label])
		}
		if !matches {
			continue
		}
		v, err := strconv.ParseFloat(rest[end+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("reading %q: %w", line, err)
		}
		sum += v
	}
	return sum, nil
}
