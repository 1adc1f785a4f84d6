package golden

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"quantumharvest/testdata/vectors"
)

func packed(t *testing.T) fs.FS {
	t.Helper()
	files, err := vectors.Files()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestTheBinaryCarriesTheVectors(t *testing.T) {
	for _, name := range fileNames {
		want, err := os.ReadFile(filepath.Join("..", "..", "testdata", "vectors", name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := fs.ReadFile(packed(t), name)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s in vectors.zip is another one (%v): run 'make generate'", name, err)
		}
	}
}

func TestThisBinaryVerifies(t *testing.T) {
	v, err := Verify(packed(t))
	if err != nil || v.Strict != 943 || len(v.Failures) > 0 {
		t.Fatalf("%d strict cases, %d failures, %v: %v", v.Strict, len(v.Failures), err, v.Failures[:min(3, len(v.Failures))])
	}
}

func TestASpoiltVectorIsSeen(t *testing.T) {
	files := fstest.MapFS{}
	for _, name := range fileNames {
		raw, err := fs.ReadFile(packed(t), name)
		if err != nil {
			t.Fatal(err)
		}
		if name == "harvest_kernel.json" {
			spoilt := bytes.Replace(raw, []byte(`"harvest_action":"PARTIAL_25"`), []byte(`"harvest_action":"PARTIAL_50"`), 1)
			if bytes.Equal(spoilt, raw) {
				spoilt = bytes.Replace(raw, []byte(`"harvest_action": "PARTIAL_25"`), []byte(`"harvest_action": "PARTIAL_50"`), 1)
			}
			raw = spoilt
		}
		files[name] = &fstest.MapFile{Data: raw}
	}
	v, err := Verify(files)
	if err != nil || len(v.Failures) != 1 {
		t.Errorf("%d failures, %v", len(v.Failures), err)
	}
	delete(files, "chain.json")
	if _, err := Verify(files); err == nil {
		t.Error("a missing file passes")
	}
}
