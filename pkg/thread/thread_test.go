package thread

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestBaseSubject(t *testing.T) {
	for _, tt := range []struct {
		in, want string
		reply    bool
	}{
		{"Hello  World", "hello world", false},
		{"Re: Hello", "hello", true},
		{"re: FWD: Fw:hello (fwd) (FWD)", "hello", true},
		{"[list] Re[4]: [other] Hello", "hello", true},
		{"[list]", "[list]", false},
		{"[a][b]", "[b]", false},
		{"[Fwd: Re: [x] deep]", "deep", true},
		{"Re: [Fwd: ]", "", true},
		{"Regards", "regards", false},
		{"Re: ", "", true},
		{"[un closed Re: x", "[un closed re: x", false},
		{"ÄRGER\t ß", "ärger ß", false},
		{"", "", false},
	} {
		if got, reply := BaseSubject(tt.in); got != tt.want || reply != tt.reply {
			t.Errorf("%q: %q %v, want %q %v", tt.in, got, reply, tt.want, tt.reply)
		}
	}
}

// msg is "id subject message-id references" at minute id.
func msgs(lines ...string) []Message {
	var out []Message
	for i, line := range lines {
		f := strings.Split(line, "|")
		out = append(out, Message{ID: i + 1, Date: time.Unix(int64(i*60), 0), Subject: f[0], MessageID: f[1], References: strings.Fields(f[2])})
	}
	return out
}

func render(nodes []*Node) string {
	var b strings.Builder
	for _, n := range nodes {
		fmt.Fprintf(&b, "(%d", n.ID)
		b.WriteString(render(n.Children))
		b.WriteString(")")
	}
	return b.String()
}

func TestByReferences(t *testing.T) {
	for name, tt := range map[string]struct {
		in   []Message
		want string
	}{
		"nothing":             {nil, ""},
		"chain":               {msgs("s|a|", "Re: s|b|a", "Re: s|c|a b"), "(1(2(3)))"},
		"a reply comes first": {msgs("Re: s|b|a", "s|a|"), "(2(1))"},
		"missing parent":      {msgs("s|b|x", "t|c|x"), "(-1(1)(2))"},
		"missing only child":  {msgs("s|b|x y"), "(1)"},
		"missing middle":      {msgs("s|a|", "u|b|a x", "v|c|a x"), "(1(2)(3))"},
		"circle":              {msgs("s|a|b", "t|b|a"), "(2(1))"},
		"itself":              {msgs("s|a|a"), "(1)"},
		"same id twice":       {msgs("s|a|", "t|a|", "u|c|a"), "(1(3))(2)"},
		"same subject":        {msgs("s|a|", "Re: s|b|", "[x] s|c|"), "(-1(1(2))(3))"},
		"reply by subject":    {msgs("Re: s|b|", "s|a|"), "(2(1))"},
		"no subject":          {msgs("|a|", "|b|"), "(1)(2)"},
		"dummies joined":      {msgs("s|a|x", "s|b|x", "s|c|y", "s|d|y"), "(-1(1)(2)(3)(4))"},
	} {
		if got := render(ByReferences(tt.in)); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

func TestByOrderedSubject(t *testing.T) {
	got := render(ByOrderedSubject(msgs("Re: b|1|", "a|2|", "b|3|", "A|4|", "c|5|")))
	if want := "(1(3))(2(4))(5)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestHostileThreads: long chains and circles cost no more than their length.
func TestHostileThreads(t *testing.T) {
	const n = 20000
	var chain, circle []Message
	for i := range n {
		chain = append(chain, Message{ID: i, MessageID: fmt.Sprint(i), References: []string{fmt.Sprint(i - 1)}, Subject: "x"})
		refs := make([]string, 100)
		for k := range refs {
			refs[k] = fmt.Sprint((i + k*7) % n)
		}
		circle = append(circle, Message{ID: i, MessageID: fmt.Sprint(i), References: refs, Subject: fmt.Sprint(i)})
	}
	for name, messages := range map[string][]Message{"chain": chain, "circle": circle} {
		begun := time.Now()
		count, todo := 0, ByReferences(messages)
		for len(todo) > 0 {
			node := todo[len(todo)-1]
			todo = append(todo[:len(todo)-1], node.Children...)
			if node.ID >= 0 {
				count++
			}
		}
		if took := time.Since(begun); count != n || took > 5*time.Second {
			t.Errorf("%s: %d of %d messages in %v", name, count, n, took)
		}
	}
}

func FuzzThreads(f *testing.F) {
	f.Add("s|a|b\nRe: s|b|a\n[fwd: x]|c|a b")
	f.Fuzz(func(t *testing.T, in string) {
		var lines []string
		for line := range strings.SplitSeq(in, "\n") {
			if strings.Count(line, "|") == 2 {
				lines = append(lines, line)
			}
		}
		messages := msgs(lines...)
		for _, algorithm := range []func([]Message) []*Node{ByReferences, ByOrderedSubject} {
			seen := map[int]bool{}
			var walk func([]*Node)
			walk = func(nodes []*Node) {
				for _, n := range nodes {
					if n.ID >= 0 && seen[n.ID] || n.ID < 0 && len(n.Children) < 2 {
						t.Fatalf("message %d twice, or a dummy with %d children", n.ID, len(n.Children))
					}
					seen[n.ID] = true
					walk(n.Children)
				}
			}
			walk(algorithm(messages))
			delete(seen, -1)
			if len(seen) != len(messages) {
				t.Fatalf("%d of %d messages", len(seen), len(messages))
			}
		}
	})
}
