package main

import (
	"debug/buildinfo"
	"io"
	"path/filepath"

	"github.com/CycloneDX/cyclonedx-go"
)

// bill writes what a binary is made of, as the Go toolchain recorded it inside, in the form of CycloneDX.
func (r release) bill(p platform, binary string) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	hash, err := sum(binary)
	if err != nil {
		return err
	}
	main := cyclonedx.Component{
		BOMRef: "harvest", Type: cyclonedx.ComponentTypeApplication, Name: "harvest", Version: r.version,
		Licenses: &cyclonedx.Licenses{{License: &cyclonedx.License{ID: "Apache-2.0"}}},
		Hashes:   &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: hash}},
		Properties: &[]cyclonedx.Property{
			{Name: "platform", Value: p.String()},
			{Name: "commit", Value: r.commit},
		},
	}
	parts := []cyclonedx.Component{{
		BOMRef: "go", Type: cyclonedx.ComponentTypeLibrary, Name: "stdlib", Version: info.GoVersion,
		Licenses: &cyclonedx.Licenses{{License: &cyclonedx.License{ID: "BSD-3-Clause"}}},
	}}
	refs := []string{"go"}
	for _, dep := range info.Deps {
		if dep.Replace != nil {
			dep = dep.Replace
		}
		url := "pkg:golang/" + dep.Path + "@" + dep.Version
		parts = append(parts, cyclonedx.Component{
			BOMRef: url, Type: cyclonedx.ComponentTypeLibrary, Name: dep.Path, Version: dep.Version, PackageURL: url,
			Properties: &[]cyclonedx.Property{{Name: "go.sum", Value: dep.Sum}},
		})
		refs = append(refs, url)
	}
	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{Timestamp: r.at.Format("2006-01-02T15:04:05Z"), Component: &main}
	bom.Components = &parts
	bom.Dependencies = &[]cyclonedx.Dependency{{Ref: main.BOMRef, Dependencies: &refs}}
	name := "harvest_" + r.version + "_" + p.os + "_" + p.arch + ".cdx.json"
	return create(filepath.Join(r.out, name), func(w io.Writer) error {
		return cyclonedx.NewBOMEncoder(w, cyclonedx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
	})
}
