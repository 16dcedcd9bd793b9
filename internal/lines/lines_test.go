package lines

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func ExampleCut() {
	first, rest := Cut([]byte("one\ntwo\nthree\n"), 2)
	fmt.Printf("%q %q\n", first, rest)
	// Output: "one\ntwo\n" "three\n"
}

// Cut cuts after n lines, and an append to the first part leaves the rest as it was.
func TestCut(t *testing.T) {
	for _, test := range []struct {
		n           int
		first, rest string
	}{
		{0, "", "a\n\nb\n"}, {1, "a\n", "\nb\n"}, {2, "a\n\n", "b\n"}, {3, "a\n\nb\n", ""},
	} {
		first, rest := Cut([]byte("a\n\nb\n"), test.n)
		_ = append(first, 'x')
		if string(first) != test.first || string(rest) != test.rest {
			t.Errorf("Cut after %d lines: got %q and %q, want %q and %q", test.n, first, rest, test.first, test.rest)
		}
	}
}

// Length is -1 where the text has fewer lines than asked for. An unfinished line does not count.
func TestLength(t *testing.T) {
	for _, test := range []struct {
		text    string
		n, want int
	}{
		{"", 0, 0}, {"", 1, -1}, {"a\nbc\n", 1, 2}, {"a\nbc\n", 2, 5}, {"a\nbc\n", 3, -1}, {"a\nbc", 2, -1},
	} {
		if got := Length([]byte(test.text), test.n); got != test.want {
			t.Errorf("Length(%q, %d): got %d, want %d", test.text, test.n, got, test.want)
		}
	}
}

// Parts consist of whole lines and stay below the limit, unless a single line is longer.
func TestParts(t *testing.T) {
	long := strings.Repeat("x", 20) + "\n"
	for _, test := range []struct {
		text string
		want []string
	}{
		{"", nil},
		{"a\n", []string{"a\n"}},
		{"aaa\nbbb\nccc\n", []string{"aaa\nbbb\n", "ccc\n"}},
		{"a\n" + long + "b\n", []string{"a\n", long, "b\n"}},
		{"\n\n\n", []string{"\n\n\n"}},
	} {
		var got []string
		for part := range Parts([]byte(test.text), 10) {
			got = append(got, string(part))
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("Parts(%q, 10): got %q, want %q", test.text, got, test.want)
		}
	}
}
