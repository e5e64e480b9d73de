#pragma once

#include "harness.hpp"

/// What `fuzz::describe` says of an input that is read without the instructions that are chosen while the program runs.
std::string describe_portable(const fuzz::Input& input);
