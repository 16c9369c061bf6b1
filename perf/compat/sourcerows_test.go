package compat

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// conversationTables are the variables beside the code whose elements are conversations; each must name a row. They are played with other
// binaries too, see TestHTTPAndLookup; tests that name a row concern nsqloop alone.
var conversationTables = map[string][]string{"httpapi": {"conversations", "lookupConversations"}, "lookupd": {"conversations"}, "cmd/nsqd": nil}

const rowsMark = "rows: "

// sourceRows reads the rows that tests outside of this package name, in comments "rows: ID ..." in front of a conversation or of a test.
func sourceRows(t *testing.T) []string {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for dir, tables := range conversationTables {
		files, err := filepath.Glob(filepath.Join(root, dir, "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no tests, %v", dir, err)
		}
		found := map[string]int{}
		for _, path := range files {
			rows = append(rows, fileRows(t, path, found)...)
		}
		for _, table := range tables {
			if found[table] == 0 {
				t.Errorf("%s: no conversations in %s", dir, table)
			}
		}
	}
	return rows
}

// fileRows reads one file; found counts the conversations of each table.
func fileRows(t *testing.T, path string, found map[string]int) (rows []string) {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	// The rows by the line below their comment: what stands there has to be a conversation or a test.
	named := map[int][]string{}
	for _, group := range file.Comments {
		for _, c := range group.List {
			if list, ok := strings.CutPrefix(strings.TrimPrefix(c.Text, "// "), rowsMark); ok {
				named[set.Position(c.End()).Line+1] = strings.Fields(list)
			}
		}
	}
	take := func(at token.Pos) bool {
		line := set.Position(at).Line
		rows = append(rows, named[line]...)
		ok := len(named[line]) > 0
		delete(named, line)
		return ok
	}
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && strings.HasPrefix(f.Name.Name, "Test") {
			take(f.Pos())
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || len(v.Values) != 1 || !strings.HasSuffix(strings.ToLower(v.Names[0].Name), "conversations") {
			return true
		}
		table, ok := v.Values[0].(*ast.CompositeLit)
		if !ok {
			return true
		}
		for _, element := range table.Elts {
			found[v.Names[0].Name]++
			if !take(element.Pos()) {
				t.Errorf("%s: a conversation that names no row", set.Position(element.Pos()))
			}
		}
		return true
	})
	for line := range named {
		t.Errorf("%s:%d: rows are named, but by no conversation or test", path, line-1)
	}
	return rows
}
