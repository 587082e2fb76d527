package uki

import (
	"fmt"
	"slices"
)

// Section is one section of a UKI. Names have at most eight bytes.
type Section struct {
	Name string
	Data []byte
}

// Names of the sections that the stub reads.
const (
	OSRel   = ".osrel"   // os-release file: what the boot menu shows
	Cmdline = ".cmdline" // kernel command line
	Uname   = ".uname"   // kernel release
	Linux   = ".linux"
	Initrd  = ".initrd"
	// DTBAuto is a device tree. There may be many: the stub takes the first
	// whose first compatible string is that of the firmware's own tree, and
	// keeps the firmware's if there is none.
	DTBAuto = ".dtbauto"
)

// Build appends the sections to an unsigned stub, in order, and returns the
// UKI. Its bytes depend on nothing but the arguments.
func Build(stub []byte, sections []Section) ([]byte, error) {
	f, err := parse(slices.Clone(stub))
	if err != nil {
		return nil, fmt.Errorf("build UKI: stub: %v", err)
	}
	if f.certLen != 0 {
		return nil, fmt.Errorf("build UKI: the stub is signed; an unsigned one is needed, the signature would not hold")
	}
	if room := (f.headers - f.table) / sectionSize; len(f.sections)+len(sections) > room {
		return nil, fmt.Errorf("build UKI: the stub's headers have room for %d sections, %d are needed", room, len(f.sections)+len(sections))
	}
	for _, s := range sections {
		if err := f.append(s); err != nil {
			return nil, fmt.Errorf("build UKI: %v", err)
		}
	}
	f.setChecksum()
	return f.data, nil
}

// append adds one section at the end of file and address space, and corrects
// every header field that speaks of it.
func (f *file) append(s Section) error {
	if len(s.Name) == 0 || len(s.Name) > 8 {
		return fmt.Errorf("section name %q: want one to eight bytes", s.Name)
	}
	if len(s.Data) == 0 || int64(len(s.Data)) > 1<<30 {
		return fmt.Errorf("section %s: %d bytes", s.Name, len(s.Data))
	}
	for _, have := range f.sections {
		if have.name == s.Name && s.Name != DTBAuto {
			return fmt.Errorf("section %s: is there already", s.Name)
		}
	}
	fileAlign, memAlign := le.Uint32(f.data[f.opt+optFileAlign:]), le.Uint32(f.data[f.opt+optSectionAlign:])
	if !powerOfTwo(fileAlign) || !powerOfTwo(memAlign) {
		return fmt.Errorf("alignments %d and %d are not powers of two", fileAlign, memAlign)
	}
	f.pad(fileAlign)
	added := section{
		name: s.Name, virtualSize: uint32(len(s.Data)), address: alignUp(le.Uint32(f.data[f.opt+optSizeOfImage:]), memAlign),
		rawOff: uint32(len(f.data)), rawSize: alignUp(uint32(len(s.Data)), fileAlign),
	}
	f.data = append(f.data, s.Data...)
	f.pad(fileAlign)
	f.writeHeader(added)
	f.addTo(optInitializedData, added.rawSize)
	le.PutUint32(f.data[f.opt+optSizeOfImage:], alignUp(added.address+added.virtualSize, memAlign))
	return nil
}

func (f *file) writeHeader(s section) {
	h := f.data[f.table+len(f.sections)*sectionSize:][:sectionSize]
	clear(h)
	copy(h[:8], s.name)
	le.PutUint32(h[8:], s.virtualSize)
	le.PutUint32(h[12:], s.address)
	le.PutUint32(h[16:], s.rawSize)
	le.PutUint32(h[20:], s.rawOff)
	le.PutUint32(h[36:], characteristic)
	f.sections = append(f.sections, s)
	le.PutUint16(f.data[f.opt-coffSize+coffSections:], uint16(len(f.sections)))
}

func (f *file) addTo(field int, n uint32) {
	at := f.data[f.opt+field:]
	le.PutUint32(at, le.Uint32(at)+n)
}

func (f *file) pad(align uint32) {
	if over := uint32(len(f.data)) % align; over != 0 {
		f.data = append(f.data, make([]byte, align-over)...)
	}
}

// alignUp rounds up to a power of two.
func alignUp(n, align uint32) uint32 { return (n + align - 1) &^ (align - 1) }

func powerOfTwo(n uint32) bool { return n != 0 && n&(n-1) == 0 }

// Sections returns a PE file's sections in the order of its headers, without
// padding. The data is not copied.
func Sections(pe []byte) ([]Section, error) {
	f, err := parse(pe)
	if err != nil {
		return nil, err
	}
	var all []Section
	for _, s := range f.sections {
		var data []byte
		if s.rawSize != 0 {
			data = f.content(s)
		}
		all = append(all, Section{Name: s.name, Data: data})
	}
	return all, nil
}

// Find returns the data of the named section, or nil.
func Find(sections []Section, name string) []byte {
	for _, s := range sections {
		if s.Name == name {
			return s.Data
		}
	}
	return nil
}

// Arch returns the GOARCH that a PE file is for, "" if it is another.
func Arch(pe []byte) (string, error) {
	f, err := parse(pe)
	if err != nil {
		return "", err
	}
	return map[uint16]string{machineAMD64: "amd64", machineARM64: "arm64"}[f.machine()], nil
}
