package assets

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// The page's modules are served as two scripts, because each request costs a round trip, and because one script
// compresses better than many. connect.js connects, without waiting for jQuery, the largest script; page.js has the
// other modules. The root of a script is the module that imports all others in it.
const (
	connectScript, connectRoot = "connect.js", "lifecycle"
	pageScript, pageRoot       = "page.js", "chat"
)

// These match the import and export declarations that a module may have: an import is one line and renames nothing,
// and an export is a constant, a function, or a class.
var (
	imports = regexp.MustCompile(`(?m)^import (?:(\{.*\}) from )?'\./(\w+)\.js';\n`)
	exports = regexp.MustCompile(`(?m)^export ((?:const|class|function|async function) (\w+))`)
)

// unneeded matches indentation, lines that are comments, and comments after code if they have no quotation marks. A
// module must have no string of two lines, and none with " // " in it.
var unneeded = regexp.MustCompile("(?m)^\\s*//.*\n|^\\s+| // [^'\"`\n]*$")

// bundles returns the page's two scripts, by file name.
func bundles() map[string][]byte {
	// A module that fails is undefined, so modules that need something of it fail as well. The others go on.
	var b bundler
	b.script.WriteString("const part = f => { try { return f(); } catch (error) { reportError(error); } };\n")
	b.add(connectRoot)
	early := "{part, " + strings.Join(b.added, "$, ") + "$}"
	connect := fmt.Appendf(bytes.Clone(b.script.Bytes()), "export %s;\n", early)

	b.script.Reset()
	fmt.Fprintf(&b.script, "import %s from './%s';\n", early, connectScript)
	b.add(pageRoot)
	return map[string][]byte{connectScript: connect, pageScript: b.script.Bytes()}
}

// bundler writes modules as parts of a script. The part of the module NAME is a constant NAME$, which holds what the
// module exports.
type bundler struct {
	script bytes.Buffer
	added  []string // names of the modules that are in a script, in order
	adding []string // names of the modules that wait for their imports
}

// add adds a module, after the modules that it imports, unless it is in a script already.
func (b *bundler) add(module string) {
	if slices.Contains(b.adding, module) {
		panic(fmt.Sprintf("modules import each other: %v", b.adding))
	}
	if slices.Contains(b.added, module) {
		return
	}
	source := mustRead(module + ".js")
	b.adding = append(b.adding, module)
	for _, match := range imports.FindAllSubmatch(source, -1) {
		b.add(string(match[2]))
	}
	b.adding = b.adding[:len(b.adding)-1]
	b.added = append(b.added, module)

	var exported []string
	for _, match := range exports.FindAllSubmatch(source, -1) {
		exported = append(exported, string(match[2]))
	}
	source = imports.ReplaceAllFunc(source, func(line []byte) []byte {
		match := imports.FindSubmatch(line)
		if len(match[1]) == 0 {
			return nil
		}
		return fmt.Appendf(nil, "const %s = %s$;\n", match[1], match[2])
	})
	source = unneeded.ReplaceAll(exports.ReplaceAll(source, []byte("$1")), nil)
	fmt.Fprintf(&b.script, "const %s$ = part(() => {\n%sreturn {%s};\n});\n", module, source, strings.Join(exported, ", "))
}
