module library-go

go 1.21
