package attest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"

	"github.com/waysideos/wayside/image/release"
)

const noAssertion = "NOASSERTION" // SPDX: nothing is claimed, here of licences

// SPDX is an SPDX 2.3 document in JSON: the release, what it contains, in the
// order given. It depends on nothing else.
func SPDX(r release.Release, contains []Component) ([]byte, error) {
	image := common.ElementID("image")
	doc := spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT",
		DocumentName: "wayside-" + r.Board + "-" + r.Version,
		CreationInfo: &spdx.CreationInfo{
			Created:  time.Unix(r.Epoch, 0).UTC().Format(time.RFC3339),
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "wayside"}},
		},
		Packages:      []*spdx.Package{newPackage(image, Component{Name: "wayside-" + r.Board, Version: r.Version})},
		Relationships: []*spdx.Relationship{relate("DOCUMENT", "DESCRIBES", image)},
	}
	doc.Packages[0].PrimaryPackagePurpose = "OPERATING-SYSTEM"
	for i, c := range contains {
		id := common.ElementID("part-" + strconv.Itoa(i+1))
		doc.Packages = append(doc.Packages, newPackage(id, c))
		doc.Relationships = append(doc.Relationships, relate(image, "CONTAINS", id))
	}
	// The namespace must be another for another document.
	data, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("write SBOM: %v", err)
	}
	sum := sha256.Sum256(data)
	doc.DocumentNamespace = "https://github.com/waysideos/wayside/spdx/" + doc.DocumentName + "-" + hex.EncodeToString(sum[:16])
	data, err = json.MarshalIndent(doc, "", " ")
	return append(data, '\n'), err
}

func newPackage(id common.ElementID, c Component) *spdx.Package {
	p := &spdx.Package{
		PackageSPDXIdentifier: id, PackageName: c.Name, PackageVersion: c.Version,
		PackageDownloadLocation: noAssertion, PackageLicenseConcluded: noAssertion,
		PackageLicenseDeclared: noAssertion, PackageCopyrightText: noAssertion,
		IsFilesAnalyzedTagPresent: true, // FilesAnalyzed is false, and said
	}
	if c.SHA256 != "" {
		p.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: c.SHA256}}
	}
	if c.Hash == "dirHash" {
		p.PackageComment = "the checksum is the module's h1 of go.sum"
	}
	if c.PURL != "" {
		p.PackageExternalReferences = []*spdx.PackageExternalReference{{
			Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: c.PURL,
		}}
	}
	return p
}

func relate(a common.ElementID, how string, b common.ElementID) *spdx.Relationship {
	return &spdx.Relationship{
		RefA: common.DocElementID{ElementRefID: a}, Relationship: how, RefB: common.DocElementID{ElementRefID: b},
	}
}

// ReadSPDX returns the components of a document that SPDX wrote.
func ReadSPDX(data []byte) ([]Component, error) {
	var doc spdx.Document
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("read SBOM: %v", err)
	}
	var parts []Component
	for _, p := range doc.Packages {
		if p == nil || p.PackageSPDXIdentifier == "image" {
			continue
		}
		c := Component{Name: p.PackageName, Version: p.PackageVersion}
		for _, sum := range p.PackageChecksums {
			c.SHA256 = sum.Value
		}
		for _, ref := range p.PackageExternalReferences {
			c.PURL = ref.Locator
		}
		parts = append(parts, c)
	}
	return parts, nil
}
