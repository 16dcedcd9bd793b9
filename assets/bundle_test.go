package assets

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// Every module is a part of one of the two scripts, after the modules that it imports. No declaration of an import or an
// export is left in it.
func TestBundles(t *testing.T) {
	scripts := bundles()
	all := string(scripts["connect.js"]) + string(scripts["page.js"])
	entries, err := files.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		module, ok := strings.CutSuffix(e.Name(), ".js")
		if !ok || module == "jquery.min" {
			continue
		}
		part := fmt.Sprintf("const %s$ = part(() => {\n", module)
		if got := strings.Count(all, part); got != 1 {
			t.Errorf("%s.js is in the scripts %d times, want once", module, got)
		}
		before, _, _ := strings.Cut(all, part)
		for _, match := range imports.FindAllSubmatch(mustRead(e.Name()), -1) {
			if !strings.Contains(before, fmt.Sprintf("const %s$ = ", match[2])) {
				t.Errorf("%s.js stands before %s.js, which it imports", module, match[2])
			}
		}
	}
	for _, line := range regexp.MustCompile(`(?m)^(?:import|export)\b.*|\bimport\(.*`).FindAllString(all, -1) {
		if !strings.HasPrefix(line, "export {part, ") && !strings.HasPrefix(line, "import {part, ") {
			t.Errorf("got %q in a script, want imports and exports as bundle.go knows them", line)
		}
	}
}

// The page, its style and its scripts together have at most 54 KiB, compressed.
func TestPageIsSmall(t *testing.T) {
	size := get(Page{Title: "Chat"}.Home(""), "Accept-Encoding", "gzip").Body.Len()
	for name, h := range Files() {
		if strings.HasSuffix(name, ".js") {
			size += get(h, "Accept-Encoding", "gzip").Body.Len()
		}
	}
	t.Logf("the page, its style and its scripts have %d bytes", size)
	if size > 54<<10 {
		t.Errorf("the page, its style and its scripts have %d bytes, want 55,296 at most", size)
	}
}
