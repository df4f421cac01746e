module greeter-go

go 1.21
