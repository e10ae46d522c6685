package sqldir

import "strings"

// soundsLike reports whether each word of want sounds like one of v, by
// Soundex: our reading of approximate matching, which RFC 4511 §4.5.1.7.6 leaves
// to the server.
func soundsLike(v, want string) bool {
	words := strings.Fields(want)
	if len(words) == 0 {
		return false
	}
	have := map[string]bool{}
	for _, w := range strings.Fields(v) {
		have[soundex(w)] = true
	}
	for _, w := range words {
		if !have[soundex(w)] {
			return false
		}
	}
	return true
}

// soundex is a word's first letter and the classes of its first three other
// consonants. A word that does not begin with an ASCII letter is itself.
func soundex(word string) string {
	const classes = "01230120022455012623010202" // of a to z; 0: vowels and the like
	if word == "" || word[0] < 'a' || word[0] > 'z' {
		return word
	}
	code := []byte{word[0]}
	last := classes[word[0]-'a']
	for i := 1; i < len(word) && len(code) < 4; i++ {
		c := word[i]
		if c < 'a' || c > 'z' {
			last = '0'
			continue
		}
		class := classes[c-'a']
		if class != '0' && class != last {
			code = append(code, class)
		}
		if c != 'h' && c != 'w' { // they do not part letters of one class
			last = class
		}
	}
	return string(append(code, "000"...)[:4])
}
