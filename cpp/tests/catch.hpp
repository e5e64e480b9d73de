#pragma once

/// Catch2, of version 2 or 3.
#if PORTER_CATCH >= 3
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif
