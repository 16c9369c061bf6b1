// Package tidy is the lint of this repository, written as a test: the import table, and the limits of style that keep it readable.
package tidy

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/nsqloop/nsqloop/"

// mayImport says which packages of the project a folder may know. Imports point downwards only; perf is never part of the product.
var mayImport = map[string][]string{
	"codec":   {},
	"mmapq":   {},
	"fanout":  {"mmapq", "codec"},
	"loop":    {"codec", "fanout"},
	"lookupd": {"codec"},
	"httpapi": {"codec", "fanout", "lookupd"},
	"cmd":     {"codec", "mmapq", "fanout", "loop", "lookupd", "httpapi", "cmd"},
	"perf":    {"codec", "perf"},
}

const (
	fileLines     = 520
	functionLines = 80
)

// unsafeFiles are the only ones that may look behind Go's types.
var unsafeFiles = []string{"mmapq/words.go", "mmapq/incore.go", "loop/selfcheck.go", "loop/gnetengine.go", "loop/socket.go"}

// clockFiles are the only ones of fanout that may read a clock: all other code gets the time as an argument.
var clockFiles = []string{"fanout/clock.go", "fanout/publish.go"}

func sources(t *testing.T) []string {
	root := "../.."
	var files []string
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".go") {
			rel, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			files = append(files, filepath.ToSlash(rel))
		}
		return nil
	}))
	require.Greater(t, len(files), 50, "the walk must find the repository")
	return files
}

func parse(t *testing.T, file string) (*token.FileSet, *ast.File) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, filepath.Join("../..", file), nil, parser.ParseComments)
	require.NoError(t, err)
	return fset, f
}

func TestImportsPointDownwards(t *testing.T) {
	for _, file := range sources(t) {
		_, f := parse(t, file)
		top := strings.SplitN(file, "/", 2)[0]
		allowed, known := mayImport[top]
		if !known {
			t.Errorf("%s: folder %s is not in the import table", file, top)
			continue
		}
		for _, imp := range f.Imports {
			path := strings.Trim(imp.Path.Value, `"`)
			if path == "unsafe" && !slices.Contains(unsafeFiles, file) && !strings.HasSuffix(file, "_test.go") {
				t.Errorf("%s imports unsafe", file)
			}
			target, ok := strings.CutPrefix(path, module)
			if !ok {
				continue
			}
			// Tests above fanout build a real broker, which needs a disk.
			if target == "mmapq" && strings.HasSuffix(file, "_test.go") && slices.Contains(allowed, "fanout") {
				continue
			}
			if to := strings.SplitN(target, "/", 2)[0]; to != top && !slices.Contains(allowed, to) {
				t.Errorf("%s imports %s: %s may only know %v", file, target, top, allowed)
			}
		}
	}
}

func TestFilesAndFunctionsStaySmall(t *testing.T) {
	for _, file := range sources(t) {
		fset, f := parse(t, file)
		if n := fset.Position(f.End()).Line; n > fileLines && !strings.HasSuffix(file, "_test.go") {
			t.Errorf("%s has %d lines, at most %d", file, n, fileLines)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || strings.HasSuffix(file, "_test.go") {
				continue
			}
			if n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1; n > functionLines {
				t.Errorf("%s: function %s has %d lines, at most %d", file, fn.Name.Name, n, functionLines)
			}
		}
	}
}

func TestOnlyTheClockReadsTheTime(t *testing.T) {
	for _, file := range sources(t) {
		if !strings.HasPrefix(file, "fanout/") || strings.HasSuffix(file, "_test.go") || slices.Contains(clockFiles, file) {
			continue
		}
		_, f := parse(t, file)
		ast.Inspect(f, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Now" {
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" {
					t.Errorf("%s calls time.Now", file)
				}
			}
			return true
		})
	}
}

func TestNoUnfinishedMarks(t *testing.T) {
	marks := []string{"TO" + "DO", "FIX" + "ME", "XX" + "X"}
	for _, file := range sources(t) {
		f, err := os.Open(filepath.Join("../..", file))
		require.NoError(t, err)
		sc := bufio.NewScanner(f)
		sc.Buffer(nil, 1<<20)
		for n := 1; sc.Scan(); n++ {
			for _, m := range marks {
				if strings.Contains(sc.Text(), m) {
					t.Errorf("%s:%d: %s", file, n, m)
				}
			}
		}
		require.NoError(t, sc.Err())
		require.NoError(t, f.Close())
	}
}

// TestReadingOrder holds the tour of the data path to the truth: every file it names exists.
func TestReadingOrder(t *testing.T) {
	text, err := os.ReadFile("../../ARCHITECTURE.md")
	require.NoError(t, err)
	found := 0
	for _, line := range strings.Split(string(text), "\n") {
		name, ok := strings.CutPrefix(line, "1. `")
		if !ok {
			continue
		}
		name, _, _ = strings.Cut(name, "`")
		found++
		if _, err := os.Stat(filepath.Join("../..", name)); err != nil {
			t.Errorf("ARCHITECTURE.md names %s in the tour: %v", name, err)
		}
	}
	require.Greater(t, found, 8)
}
