package house

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

const (
	root   = "../.."
	module = "quantumharvest"
)

// listed is what the Go tool knows of one package.
type listed struct {
	ImportPath   string
	Name         string
	Dir          string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// path is the import path without the module: "kernel", "internal/store", "." for the root.
func (p listed) path() string {
	if p.ImportPath == module {
		return "."
	}
	return strings.TrimPrefix(p.ImportPath, module+"/")
}

// listing asks the Go tool once for all tests.
var listing = sync.OnceValues(func() ([]listed, error) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Dir,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, stderr.Bytes())
	}
	var list []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var p listed
		if err := dec.Decode(&p); err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		list = append(list, p)
	}
	if len(list) < 10 {
		return nil, fmt.Errorf("go list found %d packages only", len(list))
	}
	return list, nil
})

func packages(t *testing.T) []listed {
	t.Helper()
	list, err := listing()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// files calls f with every file of the tree that has one of the endings, with its path relative to the root. What is
// not ours, built or downloaded is left out.
func files(t *testing.T, f func(path string, text []byte), endings ...string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			switch entry.Name() {
			case ".git", ".tools", ".harvest", "bin", "dist", "node_modules":
				return filepath.SkipDir
			}
			return nil
		}
		if !entry.Type().IsRegular() || !slices.ContainsFunc(endings, func(e string) bool { return strings.HasSuffix(rel, e) }) {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f(filepath.ToSlash(rel), text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPackageNames(t *testing.T) {
	vague := []string{"util", "utils", "common", "types", "models", "helpers", "mocks", "misc"}
	for _, p := range packages(t) {
		if slices.Contains(vague, p.Name) {
			t.Errorf("package %s: a package is a noun of the field; %q says nothing about what is in it", p.path(), p.Name)
		}
	}
}

// maxLines is where a file is no longer read as one thing.
const maxLines = 600

func TestFileLength(t *testing.T) {
	generated := regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)
	files(t, func(path string, text []byte) {
		if n := bytes.Count(text, []byte("\n")); n > maxLines && !generated.Match(text) {
			t.Errorf("%s has %d lines, more than %d: split it along what it is about", path, n, maxLines)
		}
	}, ".go")
}

func TestNothingIsPutOff(t *testing.T) {
	putOff := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)
	files(t, func(path string, text []byte) {
		for i, line := range strings.Split(string(text), "\n") {
			if found := putOff.FindString(line); found != "" {
				t.Errorf("%s:%d: %s: what is not done is an issue, not a comment", path, i+1, found)
			}
		}
	}, ".go", ".sh", "Makefile", ".md")
}

func TestGoMod(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "replace") || strings.HasPrefix(line, "exclude") {
			t.Errorf("go.mod: %s: those who import the kernel would not get it", strings.TrimSpace(line))
		}
	}
}

// parsed is one Go file of the tree.
type parsed struct {
	path string
	file *ast.File
	fset *token.FileSet
}

func parse(t *testing.T, include func(path string) bool) []parsed {
	t.Helper()
	var list []parsed
	files(t, func(path string, text []byte) {
		if !include(path) || strings.Contains(path, "/testdata/") {
			return
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Errorf("%v", err)
			return
		}
		list = append(list, parsed{path, file, fset})
	}, ".go")
	return list
}

func notTest(path string) bool { return !strings.HasSuffix(path, "_test.go") }

func TestPackageDocs(t *testing.T) {
	docs, all := map[string][]string{}, map[string]bool{}
	for _, p := range parse(t, notTest) {
		dir := filepath.ToSlash(filepath.Dir(p.path))
		all[dir] = true
		if p.file.Doc != nil {
			docs[dir] = append(docs[dir], p.path)
		}
	}
	for dir := range all {
		if n := len(docs[dir]); n != 1 {
			t.Errorf("package %s has %d doc comments %v: one place says what a package is for", dir, n, docs[dir])
		}
	}
}

// Every exported name says what it means; for constants and variables the comment of their group will do.
func TestExportedNamesAreDocumented(t *testing.T) {
	for _, p := range parse(t, notTest) {
		if p.file.Name.Name == "main" {
			continue
		}
		missing := func(at token.Pos, name string) {
			t.Errorf("%s: %s has no doc comment: meaning, units and errors belong there", p.fset.Position(at), name)
		}
		for _, decl := range p.file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Doc == nil && d.Name.IsExported() && (d.Recv == nil || receiverExported(d.Recv)) {
					missing(d.Pos(), d.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch s := spec.(type) {
					case *ast.TypeSpec:
						if s.Name.IsExported() && s.Doc == nil && d.Doc == nil {
							missing(s.Pos(), s.Name.Name)
						}
					case *ast.ValueSpec:
						if s.Names[0].IsExported() && s.Doc == nil && s.Comment == nil && d.Doc == nil {
							missing(s.Pos(), s.Names[0].Name)
						}
					}
				}
			}
		}
	}
}

func receiverExported(recv *ast.FieldList) bool {
	typ := recv.List[0].Type
	for {
		switch t := typ.(type) {
		case *ast.StarExpr:
			typ = t.X
		case *ast.IndexExpr:
			typ = t.X
		case *ast.IndexListExpr:
			typ = t.X
		case *ast.Ident:
			return t.IsExported()
		default:
			return false
		}
	}
}
